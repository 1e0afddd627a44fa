//! The interfaces in use, followed by name.
//!
//! An interface may appear after the start, disappear, come back with another index, or pass its
//! name to another one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::monitor::NetEvent;
use super::wire::{InterfaceAddress, Link};
use crate::vrrp::Mark;

/// The state of the interfaces with the watched names. Alternative names count too.
#[derive(Debug, Default)]
pub struct Links {
    watched: Vec<Watched>,
    /// The names of interfaces with ports, by index.
    with_ports: BTreeMap<u32, String>,
    /// During a dump: the state that replaces `watched` at its end.
    resynced: Option<Vec<Watched>>,
    /// An interface has got a watched name whose addresses were never listed.
    incomplete: bool,
}

#[derive(Clone, Debug)]
struct Watched {
    name: Arc<str>,
    /// The interface that has the name now.
    link: Option<Link>,
    /// Its addresses, in the order of the kernel.
    addresses: Vec<InterfaceAddress>,
    /// Incremented with every change of `addresses`.
    changes: u64,
    /// During a dump: the interface that had the name before, and whether it still exists.
    before: Option<(u32, bool)>,
}

/// A change of a watched interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// An interface has got the name, which none had before.
    Appeared { name: Arc<str>, link: Link },
    /// The interface went up or down, or its MAC address or names changed.
    Changed {
        name: Arc<str>,
        /// The new state.
        link: Link,
    },
    /// The interface has lost the name.
    Gone {
        name: Arc<str>,
        /// It still exists, under another name and with its addresses.
        renamed: bool,
    },
    /// An address was added, removed or changed, for example became usable.
    Addresses { name: Arc<str> },
    /// An address with our mark was removed or lost the mark.
    Lost { name: Arc<str>, ip: IpAddr },
    /// An address without our mark was added, or one of ours lost the mark.
    Foreign { name: Arc<str>, ip: IpAddr },
}

impl Links {
    /// Watches these names and no others. If the state is [`incomplete`](Self::incomplete)
    /// afterwards, request a dump ([`Monitor::dump`](super::Monitor::dump)).
    pub fn watch(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut watched = Vec::new();
        for name in names {
            if watched.iter().any(|known: &Watched| known.name == name) {
                continue;
            }
            match self.watched.iter().position(|known| known.name == name) {
                Some(known) => watched.push(self.watched.swap_remove(known)),
                None => {
                    self.incomplete = true;
                    watched.push(Watched::unknown(name, None));
                }
            }
        }
        self.watched = watched;
        // A dump in progress may already have passed the interfaces with the new names.
        if self.resynced.take().is_some() {
            self.incomplete = true;
        }
    }

    /// Whether events were missed because a name was not watched yet, so that a dump is needed.
    /// Resets the answer.
    pub fn incomplete(&mut self) -> bool {
        std::mem::take(&mut self.incomplete)
    }

    /// Applies an event and calls `changed` for each resulting change of a watched interface.
    /// During a dump it is not called; at the end of the dump it is, for every difference to the
    /// state before.
    pub fn apply(&mut self, event: NetEvent, mut changed: impl FnMut(LinkChange)) {
        match &event {
            NetEvent::Link(link) if link.has_ports => {
                self.with_ports.insert(link.index, link.name.clone());
            }
            NetEvent::Link(Link { index, .. }) | NetEvent::LinkGone { index } => {
                self.with_ports.remove(index);
            }
            NetEvent::Address(_)
            | NetEvent::AddressGone { .. }
            | NetEvent::Resync
            | NetEvent::Synced => {}
        }
        match event {
            NetEvent::Resync => {
                let unknown = |old: &Watched| {
                    Watched::unknown(old.name.clone(), old.link.as_ref().map(|link| link.index))
                };
                self.resynced = Some(self.watched.iter().map(unknown).collect());
            }
            NetEvent::Synced => {
                let resynced = self.resynced.take().unwrap_or_default();
                for (old, new) in self.watched.iter_mut().zip(resynced) {
                    old.replace_with(new, &mut changed);
                }
            }
            NetEvent::Link(_)
            | NetEvent::LinkGone { .. }
            | NetEvent::Address(_)
            | NetEvent::AddressGone { .. } => match &mut self.resynced {
                Some(resynced) => {
                    for watched in resynced {
                        watched.apply(&event, &mut |_| {});
                    }
                }
                None => {
                    for watched in &mut self.watched {
                        self.incomplete |= watched.apply(&event, &mut changed);
                    }
                }
            },
        }
    }

    /// The interface that has a watched name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.find(name)?.link.as_ref()
    }

    /// The name of the bridge, bond or team that this interface is a port of.
    pub fn port_of(&self, link: &Link) -> Option<&str> {
        let index = link.port_of?;
        Some(self.with_ports.get(&index).map_or("another interface", |name| name))
    }

    /// The addresses of the interface that has a watched name, in the order of the kernel.
    pub fn addresses(&self, name: &str) -> &[InterfaceAddress] {
        self.find(name).map_or(&[], |watched| &watched.addresses)
    }

    /// A counter that is incremented whenever [`addresses`](Self::addresses) of this name change.
    pub fn changes(&self, name: &str) -> u64 {
        self.find(name).map_or(0, |watched| watched.changes)
    }

    fn find(&self, name: &str) -> Option<&Watched> {
        self.watched.iter().find(|watched| &*watched.name == name)
    }
}

impl Watched {
    fn unknown(name: Arc<str>, before: Option<u32>) -> Self {
        let before = before.map(|index| (index, false));
        Watched { name, link: None, addresses: Vec::new(), changes: 0, before }
    }

    /// Applies an event. Returns whether an interface has got the name whose addresses are unknown.
    fn apply(&mut self, event: &NetEvent, changed: &mut impl FnMut(LinkChange)) -> bool {
        let index = self.link.as_ref().map(|link| link.index);
        if let Some((before, exists)) = &mut self.before {
            match event {
                NetEvent::Link(link) => *exists |= link.index == *before,
                NetEvent::LinkGone { index } => *exists &= index != before,
                NetEvent::Address(_)
                | NetEvent::AddressGone { .. }
                | NetEvent::Resync
                | NetEvent::Synced => {}
            }
        }
        match event {
            NetEvent::Link(link) => {
                let names = std::iter::once(&link.name).chain(&link.alt_names);
                let named = names.into_iter().any(|name| **name == *self.name);
                match (named, index == Some(link.index)) {
                    (true, true) => self.update_link(link, changed),
                    (true, false) => {
                        self.lose_link(true, changed);
                        self.link = Some(link.clone());
                        changed(LinkChange::Appeared {
                            name: self.name.clone(),
                            link: link.clone(),
                        });
                        return true;
                    }
                    (false, true) => self.lose_link(true, changed),
                    (false, false) => {}
                }
            }
            NetEvent::LinkGone { index: gone } if index == Some(*gone) => {
                self.lose_link(false, changed)
            }
            NetEvent::Address(found) if index == Some(found.index) => {
                self.update_address(found, changed)
            }
            NetEvent::AddressGone { index: gone, ip, prefix } if index == Some(*gone) => {
                let known = self.addresses.iter().position(|a| a.ip == *ip && a.prefix == *prefix);
                if let Some(known) = known {
                    let lost = self.addresses.remove(known);
                    self.changes += 1;
                    if lost.mark != Mark::None {
                        changed(LinkChange::Lost { name: self.name.clone(), ip: lost.ip });
                    }
                    changed(LinkChange::Addresses { name: self.name.clone() });
                }
            }
            NetEvent::LinkGone { .. }
            | NetEvent::Address(_)
            | NetEvent::AddressGone { .. }
            | NetEvent::Resync
            | NetEvent::Synced => {}
        }
        false
    }

    /// The interface was removed, or `renamed`.
    fn lose_link(&mut self, renamed: bool, changed: &mut impl FnMut(LinkChange)) {
        self.addresses.clear();
        self.changes += 1;
        if self.link.take().is_some() {
            changed(LinkChange::Gone { name: self.name.clone(), renamed });
        }
    }

    fn update_link(&mut self, link: &Link, changed: &mut impl FnMut(LinkChange)) {
        if self.link.as_ref() != Some(link) {
            self.link = Some(link.clone());
            changed(LinkChange::Changed { name: self.name.clone(), link: link.clone() });
        }
    }

    fn update_address(&mut self, found: &InterfaceAddress, changed: &mut impl FnMut(LinkChange)) {
        let name = &self.name;
        let known = self.addresses.iter_mut().find(|known| known.address() == found.address());
        match known {
            // A renewal changes nothing but the lifetime.
            Some(known) if known == found => return,
            Some(known) => {
                if known.mark != Mark::None && found.mark == Mark::None {
                    changed(LinkChange::Lost { name: name.clone(), ip: found.ip });
                    changed(LinkChange::Foreign { name: name.clone(), ip: found.ip });
                }
                *known = *found;
            }
            None => {
                self.addresses.push(*found);
                if found.mark == Mark::None {
                    changed(LinkChange::Foreign { name: name.clone(), ip: found.ip });
                }
            }
        }
        self.changes += 1;
        changed(LinkChange::Addresses { name: name.clone() });
    }

    /// Takes over the state from a dump, and reports the differences.
    fn replace_with(&mut self, new: Watched, changed: &mut impl FnMut(LinkChange)) {
        let name = &self.name;
        let same = match (&self.link, &new.link) {
            (Some(old), Some(new)) => old.index == new.index,
            (None, _) | (_, None) => false,
        };
        if !same {
            self.lose_link(new.before.is_some_and(|(_, exists)| exists), changed);
            if let Some(link) = new.link {
                changed(LinkChange::Appeared { name: self.name.clone(), link: link.clone() });
                self.link = Some(link);
            }
        } else if let Some(link) = &new.link
            && self.link.as_ref() != Some(link)
        {
            changed(LinkChange::Changed { name: name.clone(), link: link.clone() });
            self.link = new.link;
        }

        let name = &self.name;
        let ours = |list: &[InterfaceAddress], wanted: bool| -> BTreeSet<(IpAddr, u8)> {
            let ours = list.iter().filter(|address| (address.mark != Mark::None) == wanted);
            ours.map(|address| (address.ip, address.prefix)).collect()
        };
        for (ip, _) in ours(&self.addresses, true).difference(&ours(&new.addresses, true)) {
            changed(LinkChange::Lost { name: name.clone(), ip: *ip });
        }
        for (ip, _) in ours(&new.addresses, false).difference(&ours(&self.addresses, false)) {
            changed(LinkChange::Foreign { name: name.clone(), ip: *ip });
        }
        if self.addresses != new.addresses {
            self.addresses = new.addresses;
            self.changes += 1;
            changed(LinkChange::Addresses { name: name.clone() });
        }
    }
}
