//! Looking at the whole: explanations, decisions, events, policies, backends, backup and the self-check.

use super::{DecisionQuery, ExplainRequest, Finding, Service, ShownDecision, act, launch};
use crate::admit::{self, Asked, Judged};
use crate::gate::Asking;
use crate::nearest;
use crate::policies::{Policies, PolicyStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vws_domain::{
    Caller, Decision, DecisionId, Error, ErrorKind, Event, NicNetwork, Result, Site, Timestamp, Verb, VerdictKind, Workspace,
};
use vws_store::DecisionFilter;

/// Decisions that one question is answered with, at most.
pub const DECISIONS_MOST: u64 = 1000;
/// Events that one question is answered with, at most.
pub const EVENTS_MOST: u64 = 10_000;

impl Service {
    /// What would be decided, by the same function, without any effect.
    ///
    /// # Errors
    /// What is wrong with the request before it is judged: InvalidArgument, NotFound, AlreadyExists.
    pub async fn explain(&self, caller: &Caller, request: ExplainRequest) -> Result<ShownDecision> {
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        let id = DecisionId(self.env.id());
        let env = Arc::clone(&self.env);
        let (judged, nearest) = match (request.verb, request.spec, request.workspace) {
            (Verb::Launch, Some(spec), _) => {
                let spec = spec.validated()?;
                let pointers = launch::Pointers::look(&spec, &caller, &self.admission).await?;
                self.core
                    .consider(move |site, now| {
                        let prepared = launch::prepare(site, &caller, spec, &pointers, now, &|| env.id())?;
                        Ok(considered(&policies, site, now, prepared.asked))
                    })
                    .await?
            }
            (Verb::Launch, None, _) => return Err(Error::invalid("the request", "has no spec", "give what you would launch")),
            (verb, _, Some(workspace)) => {
                let (lease_seconds, host) = (request.lease_seconds, request.host);
                self.core
                    .consider(move |site, now| {
                        let workspace = super::seen(site, &policies, &caller, workspace)?;
                        let asked = if verb == Verb::Resize {
                            super::resize::prepare(site, &caller, &workspace, &request.resize.unwrap_or_default())?.0
                        } else {
                            act::ask(site, &caller, &workspace, verb, host, lease_seconds)?
                        };
                        Ok(considered(&policies, site, now, asked))
                    })
                    .await?
            }
            (verb, _, None) if verb.admins_only() || matches!(verb, Verb::ImageImport | Verb::ImageManage) => {
                let name = request.name.unwrap_or_default();
                self.core
                    .consider(move |site, now| {
                        let request = admit::request_named(verb, &name, Vec::new());
                        let asked = Asked { request, caller, workspace: None, fresh: None, neighbours: None };
                        Ok(considered(&policies, site, now, asked))
                    })
                    .await?
            }
            (verb, _, None) => {
                return Err(Error::invalid(
                    format!("verb `{}`", verb.name()),
                    "is about a workspace, and none is named",
                    "name one",
                ));
            }
        };
        let decision = judged.decision(id, None, false);
        let lines: Vec<String> =
            decision.verdicts.iter().map(|verdict| self.policies.source_line(&verdict.rule).trim().to_owned()).collect();
        let source = refusing_rule(&decision).map_or_else(String::new, |rule| self.policies.source_line(rule));
        Ok(ShownDecision { decision, source, lines, nearest, limits: Some(self.policies.limits()) })
    }

    /// Recorded decisions that the caller may see: own ones, about visible workspaces, or all for administrators. Newest first.
    ///
    /// # Errors
    /// Internal: the store cannot be read.
    pub async fn decisions(&self, caller: &Caller, query: DecisionQuery) -> Result<Vec<ShownDecision>> {
        let store = Arc::clone(&self.store);
        let limit = usize::try_from(query.limit.clamp(1, DECISIONS_MOST)).unwrap_or(usize::MAX);
        let mut filter = DecisionFilter {
            workspace: query.workspace,
            name: query.name,
            uid: query.caller,
            permitted: query.permitted,
            verb: query.verb,
            since: query.since,
            until: query.until,
            ..DecisionFilter::default()
        };
        let visible = query.workspace.is_some_and(|id| self.workspace(caller, id).is_ok());
        if !caller.admin && !visible {
            if query.caller.is_some_and(|uid| uid != caller.uid) {
                return Ok(Vec::new());
            }
            filter.uid = Some(caller.uid);
        }
        let one = query.id;
        let found = crate::operate::blocking(move || {
            let reader = store.reader()?;
            // Many decisions name few sets.
            let mut sets: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
            let decisions: Vec<Decision> = match one {
                Some(id) => reader.decision(id)?.into_iter().collect(),
                None => reader.decisions(&filter, limit)?,
            };
            decisions
                .into_iter()
                .map(|decision| {
                    let files = match sets.get(&decision.policy.0) {
                        Some(files) => files,
                        None => {
                            let files = reader.policy_set(&decision.policy)?.unwrap_or_default();
                            sets.entry(decision.policy.0.clone()).or_insert(files)
                        }
                    };
                    let line = |rule: &vws_domain::Rule| -> String {
                        let text = files.get(&rule.file).map(String::as_str).unwrap_or_default();
                        let line = (rule.line as usize).checked_sub(1).and_then(|line| text.lines().nth(line));
                        line.unwrap_or_default().trim().to_owned()
                    };
                    let lines = decision.verdicts.iter().map(|verdict| line(&verdict.rule)).collect();
                    let source = refusing_rule(&decision).map(line).unwrap_or_default();
                    Ok(ShownDecision { decision, source, lines, nearest: Vec::new(), limits: None })
                })
                .collect::<Result<Vec<_>>>()
        })
        .await?;
        let mine = |shown: &ShownDecision| {
            caller.admin
                || shown.decision.caller.uid == caller.uid
                || shown.decision.workspace.is_some_and(|id| self.workspace(caller, id).is_ok())
        };
        Ok(found.into_iter().filter(mine).collect())
    }

    /// Committed events after `sequence` that the caller may see, at most `limit`; with the last sequence number looked at.
    ///
    /// # Errors
    /// Internal: the store cannot be read.
    pub async fn events_since(&self, caller: &Caller, sequence: u64, limit: u64) -> Result<(Vec<Event>, u64)> {
        let store = Arc::clone(&self.store);
        let limit = usize::try_from(limit.clamp(1, EVENTS_MOST)).unwrap_or(usize::MAX);
        let events = crate::operate::blocking(move || store.reader()?.events_since(sequence, limit)).await?;
        let last = events.last().map_or(sequence, |event| event.sequence);
        Ok((events.into_iter().filter(|event| self.may_view_event(caller, event)).collect(), last))
    }

    /// Reloads the policies now; answers the generation in force.
    ///
    /// # Errors
    /// AccessDenied; PolicyFailure with the first problem when the files are broken (the last good set stays in force).
    /// `accept`: also files that the replay would block.
    pub async fn reload_policies(&self, caller: &Caller, accept: bool) -> Result<u64> {
        self.gate_site(caller, Verb::PolicyManage, "policies").await?;
        self.gate.reload(Asking { cause: "reload", actor: caller.user.clone(), forced: true, accept }).await?;
        let status = self.policies.status();
        match status.problems.first() {
            None => Ok(status.generation),
            Some(problem) => Err(Error::new(
                ErrorKind::PolicyFailure,
                format!("policies in `{}`", status.directory.display()),
                problem.to_string(),
                if status.state == "stale" {
                    "the last good set stays in force; mend the file"
                } else {
                    "nothing is in force; mend the file"
                },
            )),
        }
    }

    /// What is in force and what is wrong with the newest files.
    #[must_use]
    pub fn policy_status(&self) -> PolicyStatus {
        self.policies.status()
    }

    /// Checks policy sources without putting them in force: the problems found.
    ///
    /// # Errors
    /// InvalidArgument: too much source.
    pub async fn check_policies(&self, _caller: &Caller, files: BTreeMap<String, String>) -> Result<Vec<vws_policy::Problem>> {
        let bytes: usize = files.values().map(String::len).sum();
        if bytes > CHECK_BYTES {
            return Err(Error::invalid(
                "policy sources",
                format!("{bytes} bytes given, {CHECK_BYTES} are checked at most"),
                "check fewer files",
            ));
        }
        crate::operate::blocking(move || {
            let sources = vws_policy::Sources { files };
            Ok(vws_policy::PolicySet::load(sources, vws_policy::Limits::default()).err().unwrap_or_default())
        })
        .await
    }

    /// The backend plugins.
    #[must_use]
    pub fn backends(&self) -> Vec<vws_backend::PluginStatus> {
        self.backends.status()
    }

    /// Compares ledger, projection, library and hosts.
    ///
    /// # Errors
    /// AccessDenied, Internal.
    pub async fn doctor(&self, caller: &Caller) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        match self.gate_site(caller, Verb::SiteManage, "doctor").await {
            // The decision cannot be recorded. Who may know of it is told why.
            Err(error) if error.code == "store-failed" => {
                self.judge_site(caller, Verb::SiteManage, "doctor").await?;
                let why = self.store.trouble().unwrap_or(error.detail);
                findings.push(finding(
                    "error",
                    "the database",
                    &format!("cannot be written ({why}); every change is refused, and it is being opened again"),
                    "see to the device of the state folder; the daemon goes on by itself when it works again",
                ));
            }
            gated => gated?,
        }
        let projection = self.core.read(Clone::clone);
        if !projection.same_sums(&projection.recomputed()) {
            findings.push(finding(
                "error",
                "the projection",
                "its kept sums differ from its reservations",
                "restart the daemon and report it",
            ));
        }
        let store = Arc::clone(&self.store);
        let rebuilt = crate::operate::blocking(move || store.reader()?.rebuild()).await?;
        let same_sequence = rebuilt.sequence == projection.sequence;
        if same_sequence {
            if !rebuilt.same_sums(&projection)
                || rebuilt.workspaces().ne(projection.workspaces())
                || rebuilt.reservations().ne(projection.reservations())
                || rebuilt.networks().ne(projection.networks())
                || rebuilt.addresses().all().ne(projection.addresses().all())
            {
                findings.push(finding(
                    "error",
                    "the database",
                    "the ledger on disk and the projection in memory differ",
                    "restart the daemon and report it",
                ));
            } else {
                findings.push(finding("ok", "the database", &format!("ledger and projection agree at {}", rebuilt.sequence), ""));
            }
        } else {
            findings.push(finding(
                "ok",
                "the database",
                "it changed while it was being looked at; look again for a full comparison",
                "",
            ));
        }
        for reservation in projection.reservations() {
            if projection.workspace(reservation.workspace).is_none() {
                findings.push(finding(
                    "error",
                    &format!("workspace {}", reservation.workspace),
                    "holds a reservation and does not exist",
                    "report it",
                ));
            }
        }
        findings.extend(doctor_addresses(&projection));
        let used: BTreeSet<String> = projection.images().flat_map(|image| image.digests()).map(str::to_owned).collect();
        let library = Arc::clone(&self.library);
        let (blobs, bundles) = crate::operate::blocking(move || Ok((library.list_blobs()?, library.list_bundles()?))).await?;
        let blobs: BTreeSet<String> = blobs.into_iter().map(|blob| blob.digest).collect();
        for digest in used.difference(&blobs) {
            findings.push(finding(
                "error",
                &format!("image bytes {digest}"),
                "are in the catalogue and not in the library",
                "remove the image and import it again",
            ));
        }
        for digest in blobs.difference(&used) {
            findings.push(finding(
                "warning",
                &format!("image bytes {digest}"),
                "are in the library and in no image",
                "they belong to an import that failed; remove the file",
            ));
        }
        for image in projection.images().filter(|image| image.state == vws_domain::ImageState::Damaged) {
            findings.push(finding(
                "error",
                &format!("image `{}`", image.name),
                &format!("its bytes are no longer those of sha256 {}", image.digest),
                "remove it and import it again",
            ));
        }
        for bundle in projection.bundles().filter(|bundle| bundle.consumed_at.is_none() && !bundles.contains(&bundle.id)) {
            findings.push(finding(
                "error",
                &format!("bundle {}", bundle.id),
                &format!("is what workspace {} is now, and not in the library", bundle.workspace),
                "look for its folder in a backup of the library; without it only destroy is possible",
            ));
        }
        for bundle in bundles {
            if projection.bundle(bundle).is_none() {
                findings.push(finding(
                    "warning",
                    &format!("bundle {bundle}"),
                    "is in the library and belongs to no workspace",
                    "it belongs to a job that was interrupted; remove it",
                ));
            }
        }
        findings.extend(self.doctor_hosts().await);
        let status = self.policies.status();
        let worst = if status.state == "good" { "ok" } else { "error" };
        findings.push(finding(
            worst,
            "policies",
            &format!("{}, generation {}", status.state, status.generation),
            if worst == "ok" { "" } else { "`vws policy status` shows what is wrong" },
        ));
        Ok(findings)
    }

    /// What hosts run that the ledger does not know, and the other way round.
    async fn doctor_hosts(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for shown in self.hosts() {
            let name = &shown.host.name;
            let object = format!("host `{name}`");
            let listed = match self.operate.listing(name).await {
                Ok(listed) => listed,
                Err(error) => {
                    findings.push(finding(
                        "error",
                        &object,
                        &format!("does not answer: {error}"),
                        "its workspaces are unknown until it does",
                    ));
                    continue;
                }
            };
            let known: BTreeSet<String> = self.core.read(|site| {
                site.workspaces()
                    .filter(|workspace| workspace.host.as_ref() == Some(name) || workspace.also_on.as_ref() == Some(name))
                    .map(|workspace| workspace.id.to_string())
                    .collect()
            });
            let there: BTreeSet<String> = listed.into_iter().collect();
            for id in there.difference(&known) {
                findings.push(finding(
                    "error",
                    &object,
                    &format!("has machine {id}, which no workspace here owns"),
                    "look at it with the hypervisor's tools, then remove it",
                ));
            }
            if there.is_subset(&known) {
                findings.push(finding(
                    "ok",
                    &object,
                    &format!("{} workspaces, no machine of ours that is unknown", known.len()),
                    "",
                ));
            }
        }
        findings
    }

    /// The gate without a record.
    pub(super) async fn judge_site(&self, caller: &Caller, verb: Verb, name: &str) -> Result<()> {
        let asked = Asked {
            request: admit::request_named(verb, name, Vec::new()),
            caller: caller.clone(),
            workspace: None,
            fresh: None,
            neighbours: None,
        };
        let policies = Arc::clone(&self.policies);
        let judged = self
            .core
            .consider(move |site, now| Ok(policies.decide(|judge| admit::judge(judge, site, now, asked, false))))
            .await?;
        judged.refusal.map_or(Ok(()), Err)
    }

    pub(super) async fn gate_site(&self, caller: &Caller, verb: Verb, name: &str) -> Result<()> {
        let asked = Asked {
            request: admit::request_named(verb, name, Vec::new()),
            caller: caller.clone(),
            workspace: None,
            fresh: None,
            neighbours: None,
        };
        let policies = Arc::clone(&self.policies);
        self.core.transact(move |tx| admit::gate(tx, &policies, asked).map(drop)).await
    }
}

/// A request as it would be judged, and what would pass if it does not.
fn considered(policies: &Policies, site: &Site, now: Timestamp, asked: Asked) -> (Judged, Vec<String>) {
    let judged = policies.decide(|judge| admit::judge(judge, site, now, asked.clone(), true));
    if judged.refusal.is_none() {
        return (judged, Vec::new());
    }
    let mut ways = policies.decide(|judge| nearest::nearest(&asked, |asked| admit::judge(judge, site, now, asked, false)));
    if judged.verdicts.last().is_some_and(|verdict| verdict.policy == "placement" && verdict.kind == VerdictKind::Deny) {
        ways.extend(nearest::frees_up(site, &judged.request, |id| {
            let workspace = site.workspace(id).filter(|workspace| policies.may_view(&asked.caller, workspace))?;
            Some(workspace.spec.name.clone())
        }));
    }
    (judged, ways)
}

/// Whether every address that is held is that of a NIC, every NIC's address is held for it, and no MAC is there twice.
fn doctor_addresses(site: &Site) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = |object: String, fact: String| findings.push(finding("error", &object, &fact, "report it"));
    let mut macs: BTreeMap<&str, &Workspace> = BTreeMap::new();
    for workspace in site.workspaces() {
        let mut count = 0;
        for (index, nic) in workspace.spec.nics.iter().enumerate() {
            if let Some(other) = macs.insert(&nic.mac, workspace) {
                wrong(workspace.object(), format!("has MAC {}, as {} ({}) has", nic.mac, other.object(), other.id));
            }
            let (NicNetwork::Named(network), Some(address)) = (&nic.network, nic.address) else { continue };
            count += 1;
            let held = site.addresses().get(network, address).is_some_and(|pair| {
                pair.released_at.is_none()
                    && pair.workspace == workspace.id
                    && pair.nic as usize == index
                    && pair.mac.to_string() == nic.mac
            });
            if !held {
                wrong(workspace.object(), format!("has address {address} of network `{network}`, and it is not held for it"));
            }
        }
        let reserved = site.reservation(workspace.id).map_or(0, |reservation| reservation.addresses);
        if reserved != count {
            wrong(workspace.object(), format!("has {count} addresses, and {reserved} are counted"));
        }
    }
    for pair in site.addresses().all().filter(|pair| pair.released_at.is_none()) {
        let has = site.workspace(pair.workspace).and_then(|holder| holder.spec.nics.get(pair.nic as usize));
        if has.is_none_or(|nic| nic.address != Some(pair.address)) {
            wrong(
                format!("address {} of network `{}`", pair.address, pair.network),
                format!("is held for workspace {} (`{}`), which does not have it", pair.workspace, pair.name),
            );
        }
        if site.network(&pair.network).is_none() {
            wrong(format!("address {}", pair.address), format!("is of network `{}`, which does not exist", pair.network));
        }
    }
    if findings.is_empty() && site.networks().next().is_some() {
        let held = site.addresses().all().filter(|pair| pair.released_at.is_none()).count();
        findings.push(finding("ok", "addresses", &format!("{held} are held, each by one NIC"), ""));
    }
    findings
}

/// Bytes of policy sources that one check takes.
pub const CHECK_BYTES: usize = 4 << 20;

fn finding(severity: &str, object: &str, fact: &str, remedy: &str) -> Finding {
    Finding { severity: severity.to_owned(), object: object.to_owned(), fact: fact.to_owned(), remedy: remedy.to_owned() }
}

/// The rule that refused, if one did.
fn refusing_rule(decision: &Decision) -> Option<&vws_domain::Rule> {
    let refusing = |kind: VerdictKind| matches!(kind, VerdictKind::Deny | VerdictKind::Error);
    decision.verdicts.iter().find(|verdict| refusing(verdict.kind)).map(|verdict| &verdict.rule)
}
