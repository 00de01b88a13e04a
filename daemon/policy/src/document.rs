//! The documents that scripts see, made of the core's nouns: plain frozen tables, fields by position (see `prelude.luau`).
//!
//! Numbers are Luau's only kind, 64-bit floats: every amount here is below 2^53. User data, ssh keys and settings of hosts are
//! not shown to scripts: a refusal's text could tell them.

use crate::sandbox::Sandbox;
use mlua::{Function, IntoLua, Lua, Result, Table, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_domain::{
    Caller, Candidate, Grant, Image, Network, Nic, NicNetwork, Request, Reservation, Subject, Timestamp, Usage, UsageSet, Victim,
    Visibility, Workspace,
};

/// An amount as scripts have it.
fn number(value: u64) -> f64 {
    value as f64
}

/// Text that may be missing.
fn optional(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A frozen table of texts; `None` (the prelude's shared empty table) when there is nothing in it.
fn map(lua: &Lua, pairs: &BTreeMap<String, String>) -> Result<Option<Table>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let table = lua.create_table_with_capacity(0, pairs.len())?;
    for (key, value) in pairs {
        table.raw_set(key.as_str(), value.as_str())?;
    }
    table.set_readonly(true);
    Ok(Some(table))
}

/// A present placement.
fn placement(lua: &Lua, make: &Function, reservation: &Reservation) -> Result<Table> {
    make.call((
        reservation.name.as_str(),
        f64::from(reservation.owner),
        optional(&reservation.group),
        reservation.host.as_ref().map(vws_domain::HostName::as_str),
        map(lua, &reservation.labels)?,
        reservation.running,
        reservation.preemptible,
        number(reservation.resources.vcpus),
        number(reservation.resources.memory_mib),
        number(reservation.resources.disk_gib),
    ))
}

impl Sandbox {
    /// A frozen list; `None` (the prelude's shared empty list) when there is nothing in it.
    fn list<T: IntoLua>(&self, items: impl ExactSizeIterator<Item = Result<T>>) -> Result<Option<Table>> {
        if items.len() == 0 {
            return Ok(None);
        }
        let table = self.lua.create_table_with_capacity(items.len(), 0)?;
        for (index, item) in items.enumerate() {
            table.raw_set(index + 1, item?)?;
        }
        table.set_readonly(true);
        Ok(Some(table))
    }

    fn map(&self, pairs: &BTreeMap<String, String>) -> Result<Option<Table>> {
        map(&self.lua, pairs)
    }

    fn image(&self, image: &Image) -> Result<Table> {
        let visibility = match image.visibility {
            Visibility::Private => "private",
            Visibility::Public => "public",
        };
        self.core.make.image.call((
            image.id.to_string(),
            image.name.as_str(),
            image.digest.as_str(),
            f64::from(image.owner),
            visibility,
            image.format.name(),
            number(image.virtual_size_mib),
            number(image.size_bytes),
        ))
    }

    /// A NIC. On a network of the site it has that network's kind, source and labels; `networks` are those of the request.
    fn nic(&self, nic: &Nic, networks: &[Arc<Network>]) -> Result<Table> {
        let (kind, source, network) = match &nic.network {
            NicNetwork::User => ("user", None, None),
            NicNetwork::Bridge(name) => ("bridge", Some(name.as_str()), None),
            NicNetwork::Network(name) => ("network", Some(name.as_str()), None),
            NicNetwork::Named(name) => {
                let found = networks.iter().find(|network| network.name == *name);
                let kind = found.map_or("network", |network| network.kind.name());
                (kind, found.and_then(|network| optional(&network.source)), Some(name.as_str()))
            }
        };
        let labels = networks.iter().find(|found| Some(found.name.as_str()) == network).map(|network| &network.labels);
        self.core.make.nic.call((
            kind,
            source,
            optional(&nic.mac),
            number(nic.limits.inbound_kib_per_second),
            number(nic.limits.outbound_kib_per_second),
            network,
            nic.address.map(|address| address.to_string()),
            labels.map(|labels| self.map(labels)).transpose()?.flatten(),
        ))
    }

    fn grants(&self, grants: &[Grant]) -> Result<Option<Table>> {
        self.list(grants.iter().map(|grant| {
            let (kind, id) = match grant.subject {
                Subject::User(uid) => ("user", uid),
                Subject::Group(gid) => ("group", gid),
            };
            self.core.make.grant.call::<Table>((kind, f64::from(id), grant.right.name()))
        }))
    }

    /// The request.
    pub(crate) fn request(&self, request: &Request) -> Result<Table> {
        let images = self.list(request.images.iter().map(|image| self.image(image)))?;
        let nics = self.list(request.nics.iter().map(|nic| self.nic(nic, &request.networks)))?;
        let needs = self.list(request.needs.iter().map(|need| Ok(need.as_str())))?;
        self.core.make.request.call((
            request.verb.name(),
            request.name.as_str(),
            images,
            number(request.resources.memory_mib),
            number(request.resources.vcpus),
            number(request.resources.disk_gib),
            number(request.duration_seconds),
            optional(&request.end_action),
            nics,
            self.map(&request.labels)?,
            optional(&request.operating_system),
            (
                optional(&request.group),
                optional(&request.target),
                request.host.as_ref().map(vws_domain::HostName::as_str),
                request.backend.as_deref(),
                needs,
                self.grants(&request.access)?,
                number(request.addresses),
                request.membership.as_ref().map(|member| member.cluster.as_str()),
                request.membership.as_ref().map(|member| member.role.as_str()),
                request.preemptible,
            ),
        ))
    }

    /// The caller.
    pub(crate) fn caller(&self, caller: &Caller) -> Result<Table> {
        let gids = self.list(caller.gids.iter().map(|gid| Ok(f64::from(*gid))))?;
        let groups = self.list(caller.groups.iter().map(|group| Ok(group.as_str())))?;
        self.core.make.caller.call((f64::from(caller.uid), caller.user.as_str(), gids, groups, caller.admin, caller.system))
    }

    /// The workspace it is about.
    pub(crate) fn workspace(&self, workspace: Option<&Workspace>) -> Result<Option<Table>> {
        let Some(workspace) = workspace else { return Ok(None) };
        let spec = &workspace.spec;
        self.core
            .make
            .workspace
            .call((
                workspace.id.to_string(),
                spec.name.as_str(),
                f64::from(workspace.owner),
                workspace.owner_name.as_str(),
                optional(&workspace.group),
                workspace.state.name(),
                workspace.target.name(),
                workspace.host.as_ref().map(vws_domain::HostName::as_str),
                self.map(&spec.labels)?,
                self.grants(&spec.access)?,
                optional(&spec.operating_system),
                (
                    spec.image.open().to_string(),
                    number(workspace.resources.vcpus),
                    number(workspace.resources.memory_mib),
                    number(workspace.resources.disk_gib),
                    number(workspace.lease.from.0),
                    workspace.lease.until.map(|until| number(until.0)),
                    workspace.lease.action.name(),
                    number(workspace.created_at.0),
                    spec.preemptible,
                ),
            ))
            .map(Some)
    }

    fn sums(&self, usage: &Usage) -> Result<Table> {
        self.core.make.sums.call((
            number(usage.workspaces),
            number(usage.running),
            number(usage.resources.vcpus),
            number(usage.resources.memory_mib),
            number(usage.resources.disk_gib),
            number(usage.reserved_minutes),
            number(usage.addresses),
        ))
    }

    /// What is used.
    pub(crate) fn usage(&self, usage: &UsageSet) -> Result<Table> {
        self.core.make.usage.call((self.sums(&usage.owner)?, self.sums(&usage.group)?, self.sums(&usage.site)?))
    }

    /// The workspaces that would leave a host.
    pub(crate) fn victims(&self, victims: &[Victim]) -> Result<Table> {
        let list = self.lua.create_table_with_capacity(victims.len(), 0)?;
        for (index, victim) in victims.iter().enumerate() {
            list.raw_set(index + 1, self.workspace(Some(&victim.workspace))?)?;
        }
        list.set_readonly(true);
        Ok(list)
    }

    /// A host, with the number of workspaces on it of the request's owner and group.
    pub(crate) fn host(&self, candidate: &Candidate, of_owner: u64, of_group: u64) -> Result<Table> {
        let host = &candidate.host;
        let capacity = host.capacity();
        let able = host.facts.capabilities.values().filter(|reason| reason.is_empty()).count();
        let capabilities = if able == 0 {
            None
        } else {
            let table = self.lua.create_table_with_capacity(0, able)?;
            for (name, reason) in &host.facts.capabilities {
                if reason.is_empty() {
                    table.raw_set(name.as_str(), true)?;
                }
            }
            table.set_readonly(true);
            Some(table)
        };
        self.core.make.host.call((
            host.name.as_str(),
            host.backend.as_str(),
            self.map(&host.labels)?,
            number(candidate.free.vcpus),
            number(candidate.free.memory_mib),
            number(candidate.free.disk_gib),
            number(capacity.vcpus),
            number(capacity.memory_mib),
            number(capacity.disk_gib),
            number(candidate.workspaces),
            number(of_owner),
            (
                number(of_group),
                optional(&host.facts.accelerator.name),
                optional(&host.facts.arch),
                optional(&host.facts.hypervisor),
                capabilities,
            ),
        ))
    }

    /// The whole input of access.lua.
    pub(crate) fn access_input(&self, input: &vws_domain::AccessInput) -> Result<Table> {
        self.input("access", &input.request, &input.caller, input.workspace.as_deref(), input.now, Value::Nil)
    }

    /// The whole input of quota.lua.
    pub(crate) fn quota_input(&self, input: &vws_domain::QuotaInput) -> Result<Table> {
        let usage = Value::Table(self.usage(&input.usage)?);
        self.input("quota", &input.request, &input.caller, input.workspace.as_deref(), input.now, usage)
    }

    /// The whole input of placement.lua. The list of present placements is made when a script asks for it: most do not, and
    /// an owner may have hundreds. It holds the first `most`.
    pub(crate) fn placement_input(&self, input: &vws_domain::PlacementInput, most: usize) -> Result<Table> {
        let total = number(input.placements.len() as u64);
        let request = self.request(&input.request)?;
        let caller = self.caller(&input.caller)?;
        let workspace = self.workspace(input.workspace.as_deref())?;
        let shown: Vec<Arc<Reservation>> = input.placements.iter().take(most).cloned().collect();
        let make = self.core.make.placement.clone();
        let load = self.lua.create_function(move |lua, ()| {
            let list = lua.create_table_with_capacity(shown.len(), 0)?;
            for (index, reservation) in shown.iter().enumerate() {
                list.raw_set(index + 1, placement(lua, &make, reservation)?)?;
            }
            list.set_readonly(true);
            Ok(list)
        })?;
        self.core.make.placement_input.call((request, caller, workspace, number(input.now.0), total, load))
    }

    fn input(
        &self,
        policy: &str,
        request: &Request,
        caller: &Caller,
        workspace: Option<&Workspace>,
        now: Timestamp,
        usage: Value,
    ) -> Result<Table> {
        self.core.make.input.call((
            policy,
            self.request(request)?,
            self.caller(caller)?,
            self.workspace(workspace)?,
            number(now.0),
            usage,
        ))
    }
}
