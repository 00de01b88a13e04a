//! The gate: access -> quota -> (addresses) -> placement, one policy set for all three. [`judge`] is the only place where a request is judged; the
//! real path, `explain` and dry runs call the same function with the same inputs and differ only in what they do with the answer.
//!
//! Owns: the order of the policies, the administrators' native way, the core's check of what a policy answered, the error that a
//! refusal becomes. Must not know: D-Bus, SQL, how a policy is written.

use crate::core::Tx;
use crate::policies::{Judge, Policies};
use std::collections::BTreeSet;
use std::sync::Arc;
use vws_domain::{
    AccessInput, Address, Allotment, Asker, Before, Boot, Caller, Change, Decision, DecisionId, DiskSource, Error, ErrorKind,
    Firmware, HostJudgement, HostName, Image, Network, NetworkKind, Nic, NicNetwork, Offer, PlacementInput, PolicyHash,
    QuotaInput, Request, Restriction, Rule, Seen, Site, Spec, Timestamp, UsageSet, Verb, Verdict, VerdictKind, Workspace,
    WorkspaceId, capacity_filter,
};

/// Judged hosts that a record keeps; an explanation shows them all.
pub const HOSTS_RECORDED: usize = 16;

/// A request before it is judged.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is wanted.
    pub request: Request,
    /// Who asks.
    pub caller: Caller,
    /// The workspace that it is about, if it exists.
    pub workspace: Option<Arc<Workspace>>,
    /// The id that a launch gives to its workspace: MAC addresses are made from it.
    pub fresh: Option<WorkspaceId>,
    /// Where its cluster keeps it from, and where it has to be, when that is known already: in a replay. `None`: it is looked up.
    pub neighbours: Option<(BTreeSet<HostName>, Option<HostName>)>,
}

/// A judged request.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The request after restrictions.
    pub request: Request,
    /// What it was before.
    pub before: Before,
    /// The workspace as policies saw it.
    pub seen: Option<Arc<Workspace>>,
    /// Who asked.
    pub caller: Caller,
    /// The workspace that it is about.
    pub workspace: Option<WorkspaceId>,
    /// The answers, up to the first refusal.
    pub verdicts: Vec<Verdict>,
    /// The addresses that the NICs of a new workspace get; `request.nics` has them, and MACs, too.
    pub addresses: Vec<Arc<Address>>,
    /// The host that placement chose.
    pub host: Option<HostName>,
    /// The judged hosts.
    pub hosts: Vec<HostJudgement>,
    /// Who has to leave that host first.
    pub makes_room: Option<Offer>,
    /// Whether an administrator's native way was used.
    pub native: bool,
    /// Why it is refused; `None`: permitted.
    pub refusal: Option<Error>,
    /// The policy set that judged.
    pub policy: PolicyHash,
    /// Its generation.
    pub generation: u64,
    /// The ledger's sequence number that was looked at.
    pub ledger: u64,
    /// When.
    pub at: Timestamp,
}

/// Judges a request. A function of its arguments alone: it changes nothing.
pub fn judge(judge: &mut Judge<'_>, site: &Site, now: Timestamp, asked: Asked, explain: bool) -> Judged {
    let Asked { request, caller, workspace, fresh, neighbours } = asked;
    let before = Before {
        resources: request.resources,
        duration_seconds: request.duration_seconds,
        nics: None,
        host: request.host.clone(),
        preemptible: request.preemptible,
    };
    let mut judged = Judged {
        before,
        seen: workspace.clone(),
        request,
        caller,
        workspace: workspace.as_ref().map(|workspace| workspace.id),
        verdicts: Vec::new(),
        addresses: Vec::new(),
        host: None,
        hosts: Vec::new(),
        makes_room: None,
        native: false,
        refusal: None,
        policy: judge.hash.clone(),
        generation: judge.generation,
        ledger: site.sequence,
        at: now,
    };
    if judged.caller.system {
        judged.verdicts.push(native(
            "access",
            VerdictKind::Permit,
            "system",
            format!("an act of the daemon's own: {}", judged.caller.user),
        ));
        // Where something goes is the site's rule, whoever moves it.
        judged.refusal = placement(judge, site, &mut judged, workspace.as_ref(), neighbours, explain);
        return judged;
    }
    let refused = access(judge, &mut judged, workspace.as_ref(), now)
        .or_else(|| quota(judge, site, &mut judged, workspace.as_ref(), now))
        .or_else(|| room(site, &mut judged, workspace.as_ref()))
        .or_else(|| fresh.and_then(|fresh| network(site, &mut judged, fresh, now)))
        .or_else(|| placement(judge, site, &mut judged, workspace.as_ref(), neighbours, explain));
    judged.refusal = refused;
    judged
}

/// Judges a request and records the decision: the gate of everything that changes something that exists.
///
/// # Errors
/// The refusal, recorded too.
pub fn gate(tx: &mut Tx<'_>, policies: &Policies, asked: Asked) -> Result<Judged, Error> {
    let (site, now) = (tx.site, tx.now);
    let judged = policies.decide(|holder| judge(holder, site, now, asked, false));
    judged.record(tx, None)?;
    Ok(judged)
}

fn access(judge: &mut Judge<'_>, judged: &mut Judged, workspace: Option<&Arc<Workspace>>, now: Timestamp) -> Option<Error> {
    let verb = judged.request.verb;
    if verb.admins_only() && !judged.caller.admin {
        let text = format!("`{}` is for administrators; user `{}` is none", verb.name(), judged.caller.user);
        let verdict = native("access", VerdictKind::Deny, "administrators-only", text);
        let error = refusal(ErrorKind::AccessDenied, &judged.request, &verdict, "ask a member of the administrators' group");
        judged.verdicts.push(verdict);
        return Some(error);
    }
    let input =
        AccessInput { request: judged.request.clone(), caller: judged.caller.clone(), workspace: workspace.cloned(), now };
    let verdict = judge.access(&input);
    judged.request = restricted(judged.request.clone(), verdict.restriction);
    let error = match verdict.kind {
        VerdictKind::Permit | VerdictKind::Restrict => None,
        VerdictKind::Deny => {
            Some(refusal(ErrorKind::AccessDenied, &judged.request, &verdict, "ask its owner or an administrator"))
        }
        VerdictKind::Error => Some(failure(&judged.request, &verdict)),
    };
    judged.verdicts.push(verdict);
    if error.is_some() && judged.caller.admin && verb.native_for_admins() {
        let text = format!("administrator `{}` used the native way against the scripts", judged.caller.user);
        judged.verdicts.push(native("access", VerdictKind::Permit, "native-administrator", text));
        judged.native = true;
        return None;
    }
    error
}

fn quota(
    judge: &mut Judge<'_>,
    site: &Site,
    judged: &mut Judged,
    workspace: Option<&Arc<Workspace>>,
    now: Timestamp,
) -> Option<Error> {
    if !judged.request.verb.takes_quota() {
        return None;
    }
    let owner = workspace.map_or(judged.caller.uid, |workspace| workspace.owner);
    let mut usage = UsageSet {
        owner: site.usage_of_owner(owner),
        group: site.usage_of_group(&judged.request.group),
        site: site.usage_of_site(),
    };
    if let Some(own) = workspace.and_then(|workspace| site.reservation(workspace.id)) {
        usage.owner = usage.owner.without(own);
        usage.group = usage.group.without(own);
        usage.site = usage.site.without(own);
    }
    let input =
        QuotaInput { request: judged.request.clone(), caller: judged.caller.clone(), workspace: workspace.cloned(), usage, now };
    let verdict = judge.quota(&input);
    judged.request = restricted(judged.request.clone(), verdict.restriction);
    let error = match verdict.kind {
        VerdictKind::Permit | VerdictKind::Restrict => None,
        VerdictKind::Deny => Some(refusal(
            ErrorKind::QuotaExceeded,
            &judged.request,
            &verdict,
            "ask for less, end something, or ask an administrator",
        )),
        VerdictKind::Error => Some(failure(&judged.request, &verdict)),
    };
    judged.verdicts.push(verdict);
    error
}

/// A workspace that grows where it is: its host must be able to do it, and have the room. No policy chooses anything here.
fn room(site: &Site, judged: &mut Judged, workspace: Option<&Arc<Workspace>>) -> Option<Error> {
    if judged.request.verb != Verb::Resize {
        return None;
    }
    let workspace = workspace?;
    let host = site.host(workspace.host.as_ref()?)?;
    let verdict = match vws_domain::growth_filter(&judged.request, workspace.resources, host, site.free_on(host)) {
        None => native("placement", VerdictKind::Permit, "room", format!("host `{}` has the room", host.name)),
        Some((code, text)) => native("placement", VerdictKind::Deny, code, format!("host `{}`: {text}", host.name)),
    };
    let error = (verdict.kind == VerdictKind::Deny)
        .then(|| refusal(ErrorKind::NoHost, &judged.request, &verdict, "ask for less, or move it to a host with more room"));
    judged.host = Some(host.name.clone());
    judged.verdicts.push(verdict);
    error
}

/// Gives the NICs of a new workspace their MACs and addresses. After access and quota, so that what they refuse is refused by them,
/// and nobody who may not launch learns what a pool has left.
fn network(site: &Site, judged: &mut Judged, fresh: WorkspaceId, now: Timestamp) -> Option<Error> {
    let mut nics = judged.request.nics.clone();
    let whom = Asker { caller: &judged.caller, workspace: fresh, name: &judged.request.name, owner: judged.caller.uid, now };
    match Allotment::new(site).nics(&whom, &mut nics) {
        Ok(addresses) => {
            if !addresses.is_empty() {
                let given: Vec<String> =
                    addresses.iter().map(|one| format!("{} ({}) on network `{}`", one.address, one.mac, one.network)).collect();
                judged.verdicts.push(native("network", VerdictKind::Permit, "addresses", given.join(", ")));
            }
            judged.before.nics = Some(std::mem::replace(&mut judged.request.nics, nics));
            judged.addresses = addresses;
            None
        }
        Err(mut error) => {
            let text = format!("{}: {}", error.object, error.fact);
            judged.verdicts.push(native("network", VerdictKind::Deny, &error.code, text.clone()));
            error.fact = format!("{text} [network native]");
            error.object = object(&judged.request);
            Some(error)
        }
    }
}

fn placement(
    judge: &mut Judge<'_>,
    site: &Site,
    judged: &mut Judged,
    workspace: Option<&Arc<Workspace>>,
    known: Option<(BTreeSet<HostName>, Option<HostName>)>,
    explain: bool,
) -> Option<Error> {
    let now = judged.at;
    if !judged.request.verb.takes_host() {
        return None;
    }
    let owner = workspace.map_or(judged.caller.uid, |workspace| workspace.owner);
    if let Some(membership) = judged.request.membership.clone() {
        let found =
            known.map_or_else(|| vws_domain::neighbours(site, owner, &membership, workspace.map(|workspace| workspace.id)), Ok);
        match found {
            Ok((avoid, beside)) => {
                judged.request.avoid = avoid;
                judged.request.host = judged.request.host.take().or(beside);
            }
            Err(error) => return Some(error),
        }
    }
    let input = PlacementInput {
        request: judged.request.clone(),
        caller: judged.caller.clone(),
        workspace: workspace.cloned(),
        placements: site.placements_near(owner, &judged.request.group),
        now,
    };
    let placed = judge.placement(&input, site.candidates(), explain);
    let mut verdict = placed.verdict;
    let mut host = placed.host;
    judged.hosts = placed.hosts;
    // What the daemon moves by itself displaces nobody.
    if verdict.kind == VerdictKind::Deny && placed.preempts && !judged.caller.system {
        let offers = vws_domain::offers(site, &judged.request);
        if !offers.is_empty() {
            let again = judge.displacement(&input, offers.clone(), verdict, explain);
            verdict = again.verdict;
            host = again.host;
            replace_judgements(&mut judged.hosts, again.hosts);
            judged.makes_room = offers.into_iter().find(|offer| Some(&offer.candidate.host.name) == host.as_ref());
        }
    }
    let as_it_will_be = judged.makes_room.as_ref().map(|offer| &offer.candidate);
    let chosen = as_it_will_be.or_else(|| host.and_then(|name| site.candidate(&name)));
    // A policy may rank and refuse; it cannot invent a host or room.
    let sound = chosen.filter(|candidate| capacity_filter(&judged.request, candidate).is_none());
    let error = match (verdict.kind, sound) {
        (VerdictKind::Permit | VerdictKind::Restrict, Some(candidate)) => {
            judged.host = Some(candidate.host.name.clone());
            None
        }
        (VerdictKind::Permit | VerdictKind::Restrict, None) => {
            verdict.kind = VerdictKind::Error;
            "unsound-host".clone_into(&mut verdict.code);
            "placement answered a host that does not exist or cannot take the request".clone_into(&mut verdict.text);
            Some(failure(&judged.request, &verdict))
        }
        (VerdictKind::Deny, _) => {
            let remedy = if verdict.code == "too-large-for-every-host" {
                "ask for less: waiting does not help"
            } else {
                "ask for less, or try again when something has ended"
            };
            Some(refusal(ErrorKind::NoHost, &judged.request, &verdict, remedy))
        }
        (VerdictKind::Error, _) => Some(failure(&judged.request, &verdict)),
    };
    judged.verdicts.push(verdict);
    error
}

/// Puts what became of hosts when displacing was looked at in the place of what became of them as they are.
fn replace_judgements(hosts: &mut Vec<HostJudgement>, again: Vec<HostJudgement>) {
    let (known, new): (Vec<_>, Vec<_>) = again.into_iter().partition(|one| hosts.iter().any(|known| known.host == one.host));
    for judgement in known {
        if let Some(place) = hosts.iter_mut().find(|place| place.host == judgement.host) {
            *place = judgement;
        }
    }
    hosts.splice(0..0, new);
}

fn native(policy: &str, kind: VerdictKind, code: &str, text: String) -> Verdict {
    Verdict {
        policy: policy.to_owned(),
        kind,
        code: code.to_owned(),
        text,
        rule: Rule { file: "native".to_owned(), line: 0 },
        restriction: Restriction::default(),
        micros: 0,
    }
}

fn refusal(kind: ErrorKind, request: &Request, verdict: &Verdict, remedy: &str) -> Error {
    let fact = format!("{} [{} {}]", verdict.text, verdict.policy, verdict.rule);
    Error::new(kind, object(request), fact, remedy).with_code(verdict.code.clone())
}

fn failure(request: &Request, verdict: &Verdict) -> Error {
    let fact = format!("the {} policy failed, so it is refused: {}", verdict.policy, verdict.text);
    Error::new(ErrorKind::PolicyFailure, object(request), fact, "an administrator reads `vws policy status`")
        .with_code(verdict.code.clone())
}

fn object(request: &Request) -> String {
    format!("{} of `{}`", request.verb.name(), vws_domain::shown(&request.name))
}

fn restricted(mut request: Request, restriction: Restriction) -> Request {
    if let Some(most) = restriction.duration_seconds {
        request.duration_seconds = if request.duration_seconds == 0 { most } else { request.duration_seconds.min(most) };
    }
    if let Some(most) = restriction.memory_mib {
        request.resources.memory_mib = request.resources.memory_mib.min(most);
    }
    if let Some(most) = restriction.vcpus {
        request.resources.vcpus = request.resources.vcpus.min(most);
    }
    request.preemptible |= restriction.preemptible;
    request
}

impl Judged {
    /// The decision as it is recorded or shown. A record keeps the best few hosts.
    #[must_use]
    pub fn decision(&self, id: DecisionId, workspace: Option<WorkspaceId>, record: bool) -> Decision {
        let keep = if record { HOSTS_RECORDED } else { usize::MAX };
        Decision {
            id,
            at: self.at,
            ledger: self.ledger,
            request: self.request.clone(),
            before: self.before.clone(),
            caller: self.caller.clone(),
            seen: self.seen.as_deref().map(Seen::of),
            workspace: workspace.or(self.workspace),
            policy: self.policy.clone(),
            generation: self.generation,
            verdicts: self.verdicts.clone(),
            permitted: self.refusal.is_none(),
            native: self.native,
            host: self.host.clone(),
            hosts: self.hosts.iter().take(keep).cloned().collect(),
        }
    }

    /// Records the decision in the transaction. The refusal, if it is one, carries the decision's id and is recorded all the same.
    ///
    /// # Errors
    /// The refusal.
    pub fn record(&self, tx: &mut Tx<'_>, workspace: Option<WorkspaceId>) -> Result<(), Error> {
        let id = DecisionId(tx.id());
        tx.put(Change::PutDecision(Arc::new(self.decision(id, workspace, true))));
        match &self.refusal {
            None => Ok(()),
            Some(refusal) => {
                tx.keep_on_error();
                Err(refusal.clone().with_decision(id))
            }
        }
    }
}

/// The request to do `verb` with an existing workspace.
#[must_use]
pub fn request_about(verb: Verb, workspace: &Workspace, images: Vec<Arc<Image>>) -> Request {
    let spec = &workspace.spec;
    Request {
        verb,
        name: spec.name.clone(),
        images,
        resources: workspace.resources,
        duration_seconds: workspace.lease.until.map_or(0, |until| until.seconds_since(workspace.lease.from)),
        end_action: workspace.lease.action.name().to_owned(),
        nics: spec.nics.clone(),
        labels: spec.labels.clone(),
        operating_system: spec.operating_system.clone(),
        group: workspace.group.clone(),
        target: workspace.target.name().to_owned(),
        host: None,
        backend: None,
        avoid: BTreeSet::new(),
        membership: spec.membership.clone(),
        needs: Vec::new(),
        leaves: None,
        access: spec.access.clone(),
        networks: Vec::new(),
        addresses: spec.nics.iter().filter(|nic| nic.address.is_some()).count() as u64,
        preemptible: spec.preemptible,
    }
}

/// The request to do `verb` with something that is no workspace: an image, a host, the policies.
#[must_use]
pub fn request_named(verb: Verb, name: &str, images: Vec<Arc<Image>>) -> Request {
    let spec = Spec::new(name, vws_domain::ImageRef::Name(String::new()));
    Request {
        verb,
        name: name.to_owned(),
        images,
        resources: vws_domain::Resources::default(),
        duration_seconds: 0,
        end_action: String::new(),
        nics: Vec::new(),
        labels: spec.labels,
        operating_system: String::new(),
        group: String::new(),
        target: String::new(),
        host: None,
        backend: None,
        avoid: BTreeSet::new(),
        membership: None,
        needs: Vec::new(),
        leaves: None,
        access: Vec::new(),
        networks: Vec::new(),
        addresses: 0,
        preemptible: false,
    }
}

/// The request to launch `spec` from `images`, on the site's networks that its NICs name.
#[must_use]
pub fn request_launch(site: &Site, spec: &Spec, group: &str, images: &[Option<Arc<Image>>]) -> Request {
    let root = images.first().and_then(Option::as_ref);
    let with_pool = |nic: &&Nic| network_of(site, nic).is_some_and(|network| network.pool.is_some());
    Request {
        verb: Verb::Launch,
        name: spec.name.clone(),
        images: images.iter().flatten().cloned().collect(),
        resources: spec.resources(root.map_or(0, |image| image.virtual_size_mib)),
        duration_seconds: spec.lease_seconds,
        end_action: spec.end_action.name().to_owned(),
        nics: spec.nics.clone(),
        labels: spec.labels.clone(),
        operating_system: spec.operating_system.clone(),
        group: group.to_owned(),
        target: spec.target.name().to_owned(),
        host: spec.host.clone(),
        backend: None,
        avoid: BTreeSet::new(),
        membership: spec.membership.clone(),
        needs: needs(site, spec, root.map(|image| &image.boot)),
        leaves: None,
        access: spec.access.clone(),
        networks: networks_of(site, spec),
        addresses: spec.nics.iter().filter(with_pool).count() as u64,
        preemptible: spec.preemptible,
    }
}

/// The site's network that the NIC names.
fn network_of<'a>(site: &'a Site, nic: &Nic) -> Option<&'a Arc<Network>> {
    match &nic.network {
        NicNetwork::Named(name) => site.network(name),
        _ => None,
    }
}

/// The site's networks that the spec's NICs name, each once.
#[must_use]
pub fn networks_of(site: &Site, spec: &Spec) -> Vec<Arc<Network>> {
    let mut networks: Vec<Arc<Network>> = spec.nics.iter().filter_map(|nic| network_of(site, nic)).cloned().collect();
    networks.sort_by(|one, two| one.name.cmp(&two.name));
    networks.dedup_by(|one, two| one.name == two.name);
    networks
}

/// The capabilities that a spec needs of its host.
#[must_use]
pub fn needs(site: &Site, spec: &Spec, boot: Option<&Boot>) -> Vec<String> {
    let mut needs = Vec::new();
    match boot {
        Some(Boot::Disk(Firmware::Bios)) => needs.push("boot-bios".to_owned()),
        Some(Boot::Disk(Firmware::Uefi)) => needs.push("boot-uefi".to_owned()),
        Some(Boot::Kernel { .. }) => needs.push("boot-kernel".to_owned()),
        None => {}
    }
    if spec.cpu_shares > 0 {
        needs.push("cpu-shares".to_owned());
    }
    let none = vws_domain::DiskLimits::default();
    let data_limited = spec.data_disks.iter().any(|disk| disk.limits != none);
    if spec.disk_limits != none || data_limited {
        needs.push("disk-limits".to_owned());
    }
    for nic in &spec.nics {
        match &nic.network {
            NicNetwork::User => needs.push("nic-user".to_owned()),
            NicNetwork::Bridge(name) => needs.extend(["nic-bridge".to_owned(), format!("bridge:{name}")]),
            NicNetwork::Network(name) => needs.extend(["nic-network".to_owned(), format!("network:{name}")]),
            NicNetwork::Named(_) => needs.extend(network_of(site, nic).into_iter().flat_map(|network| network.needs())),
        }
        if nic.limits != vws_domain::NicLimits::default() {
            let user_mode = match &nic.network {
                NicNetwork::User => true,
                NicNetwork::Named(_) => network_of(site, nic).is_some_and(|network| network.kind == NetworkKind::User),
                NicNetwork::Bridge(_) | NicNetwork::Network(_) => false,
            };
            needs.push(if user_mode { "nic-limits-user" } else { "nic-limits" }.to_owned());
        }
    }
    needs.sort_unstable();
    needs.dedup();
    needs
}

/// The images of a spec as the caller may use them: the root disk's first, then the data disks' (`None` for empty ones).
///
/// # Errors
/// NotFound, also for an image that the caller may not see; InvalidState while it is imported; Damaged.
pub fn catalogue_image(site: &Site, caller: &Caller, name: &str) -> Result<Arc<Image>, Error> {
    let found = site.image_named(name).or_else(|| vws_domain::ImageId::parse(name).ok().and_then(|id| site.image(id)));
    let image = found.filter(|image| may_use_image(caller, image)).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("image `{}`", vws_domain::shown(name)),
            "not found",
            "`vws image list` shows what you may use; `vws image import` adds one",
        )
    })?;
    match image.state {
        vws_domain::ImageState::Ready => Ok(Arc::clone(image)),
        vws_domain::ImageState::Importing => Err(Error::new(
            ErrorKind::InvalidState,
            format!("image `{}`", image.name),
            "is still being imported",
            "wait for its job: `vws jobs`",
        )),
        vws_domain::ImageState::Damaged => Err(Error::new(
            ErrorKind::Damaged,
            format!("image `{}`", image.name),
            format!("its bytes are no longer those of sha256 {}", image.digest),
            "remove it and import it again",
        )),
    }
}

/// Whether the caller may see and use the image.
#[must_use]
pub fn may_use_image(caller: &Caller, image: &Image) -> bool {
    caller.admin || image.owner == caller.uid || image.visibility == vws_domain::Visibility::Public
}

/// Whether a disk of the spec is made from an image.
#[must_use]
pub fn data_image(source: &DiskSource) -> Option<&vws_domain::ImageRef> {
    match source {
        DiskSource::Empty => None,
        DiskSource::Image(image) => Some(image),
    }
}
