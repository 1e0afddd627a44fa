//! The rules for one virtual router, by subject.

mod addresses;
mod advert;
mod draft;
mod election;
mod holding;
mod peers;
mod together;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub(super) use draft::RouterDraft;
pub(super) use holding::advise_on_release;
pub(super) use together::check_together;

use super::checks;
use super::file;
use super::hooks;
use super::names::{check_interface, check_name};
use super::problem::Diagnostics;
use crate::vrrp::{Address, Family, Priority, RouterConfig};
use addresses::{
    ListedAddress, check_advertised, check_repeated, is_link_local, virtual_addresses,
};
use advert::{
    check_authentication, check_checksum, check_interval, check_max_peer_interval, check_version,
    check_vrid,
};
use election::{advise_on_election, check_delay, check_preemption, check_priority};
use holding::{check_claim_prefix, check_claiming_of_owner, check_lifetime};
use peers::{check_min_ttl, check_peers, check_senders, check_source};

/// The rules for one virtual router by itself.
pub(super) fn check<'f>(
    file: &'f file::RouterTable,
    defined: &[checks::CheckDraft<'_>],
    report: &Diagnostics,
) -> RouterDraft<'f> {
    if let Some(name) = &file.name {
        check_name("the name of a virtual router", name, report);
    }
    if let Some(interface) = &file.interface {
        check_interface(interface, report);
    }
    let vrid =
        file.vrid.as_ref().and_then(|vrid| Some((check_vrid(vrid, report)?, vrid.at.clone())));
    let priority = check_priority(file.priority.as_ref(), report);
    let is_owner = priority == Priority::OWNER;

    let advertised = check_advertised(file.addresses.as_ref(), report);
    let family = advertised.first().map(|first| Family::of(first.ip));
    let unadvertised = virtual_addresses(file.unadvertised_addresses.as_ref(), report);
    let all: Vec<ListedAddress> = advertised.iter().chain(&unadvertised).cloned().collect();
    check_repeated(&all, report);

    let version = check_version(file.version.as_ref(), &advertised, report);
    let interval = check_interval(file.advert_interval.as_ref(), version, report);
    let max_peer_interval =
        check_max_peer_interval(file.max_peer_interval.as_ref(), interval, version, report);
    let checksum = check_checksum(file.checksum.as_ref(), version, family, report);
    let authentication = check_authentication(file.authentication.as_ref(), version, report);

    check_delay("preempt_delay", file.preempt_delay.as_ref(), report);
    check_preemption(file, is_owner, report);
    check_delay("start_delay", file.start_delay.as_ref(), report);
    check_delay("link_delay", file.link_delay.as_ref(), report);

    let source = check_source(file.source_address.as_ref(), family, &all, is_owner, report);
    let peers = check_peers(file, family, source.as_ref(), &all, report);
    let unicast_min_ttl = check_min_ttl(file, report);
    let accept_from = check_senders(file, family, peers.as_deref(), report);
    if let (Some(source), Some(Family::V6), None) = (&source, family, &peers)
        && !is_link_local(source.ip)
    {
        report.advice(
            &source.at,
            "IPv6 adverts to the group must come from a link-local address (RFC 9568 5.1.2.1)",
            "leave source_address out: the interface's link-local address is the default",
        );
    }

    let handover = file.handover();
    let claim_prefix = check_claim_prefix(file.claim_prefix.as_ref(), &all, is_owner, report);
    let (hooks, hook_places, settings) = hooks::check(file.hooks.as_ref(), report);
    advise_on_release(file.hooks.as_ref(), handover, report);
    check_claiming_of_owner(file, is_owner, report);
    let own_checks = checks::named(file.checks.as_ref(), defined, report);
    checks::check_use(&own_checks, file, is_owner, report);
    let address_lifetime =
        interval.and_then(|interval| check_lifetime(file, interval, is_owner, all.len(), report));
    advise_on_election(file, version, family, is_owner, &advertised, report);

    let as_claimed = |listed: &ListedAddress| match listed.prefix {
        Some(prefix) if claim_prefix => Address { ip: listed.ip, prefix },
        _ => Address::host(listed.ip),
    };
    let only_ips =
        |list: Vec<ListedAddress>| list.iter().map(|it| it.ip).collect::<Arc<[IpAddr]>>();
    let config = || {
        let mut config = RouterConfig {
            name: file.name.as_ref()?.value.as_str().into(),
            interface: file.interface.as_ref()?.value.as_str().into(),
            vrid: vrid.as_ref()?.0,
            family: family?,
            version: version?,
            priority,
            addresses: advertised.iter().map(as_claimed).collect(),
            unadvertised_addresses: unadvertised.iter().map(as_claimed).collect(),
            advert_interval: interval?,
            max_peer_interval: max_peer_interval?,
            preempt: file.preempt(),
            preempt_delay: file.preempt_delay(),
            start_delay: file.start_delay(),
            link_delay: file.link_delay(),
            checksum,
            unicast_peers: peers.map(only_ips),
            unicast_min_ttl,
            source_address: source.as_ref().map(|source| source.ip),
            accept_from: accept_from.map(only_ips),
            authentication,
            address_lifetime,
            handover,
            before_release: None,
            before_claim: None,
            fault_for: BTreeMap::new(),
            checks: own_checks
                .iter()
                .filter_map(|(_, check)| check.name())
                .map(Arc::from)
                .collect(),
        };
        settings.apply(&mut config);
        Some(config)
    };
    let result = config().map(|config| (config, hooks, hook_places));
    RouterDraft {
        file,
        name: file.name.as_ref(),
        interface: file.interface.as_ref(),
        vrid,
        family,
        addresses: all,
        result,
    }
}
