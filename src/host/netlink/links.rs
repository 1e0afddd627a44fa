//! The interfaces we use, followed by name: they may come late, go, come back under another index,
//! or give their name to another.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::monitor::NetEvent;
use super::wire::{Found, Link};

/// What is known of the interfaces with the watched names, alternative names included.
#[derive(Debug, Default)]
pub struct Links {
    watched: Vec<Watched>,
    /// Everything is being told anew: the picture that replaces `watched` at the end.
    resynced: Option<Vec<Watched>>,
    incomplete: bool,
}

#[derive(Clone, Debug)]
struct Watched {
    name: Arc<str>,
    /// The interface that has the name.
    link: Option<Link>,
    /// Its addresses, in the kernel's order.
    addresses: Vec<Found>,
    /// How often that list has changed.
    changes: u64,
}

/// Something about a watched interface that someone may have to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An interface has the name now; none had it before.
    Appeared {
        /// The watched name.
        name: Arc<str>,
        /// The interface.
        link: Link,
    },
    /// The interface went up or down, or has another MAC or other names.
    Changed {
        /// The watched name.
        name: Arc<str>,
        /// The interface as it is now.
        link: Link,
    },
    /// No interface has the name any more. Its addresses went with it.
    Gone {
        /// The watched name.
        name: Arc<str>,
    },
    /// The list of its addresses is another one, or one became usable or unusable.
    Addresses {
        /// The watched name.
        name: Arc<str>,
    },
    /// An address with our mark was removed, or lost the mark.
    Lost {
        /// The watched name.
        name: Arc<str>,
        /// The address.
        ip: IpAddr,
    },
    /// An address without our mark was added, or one of ours lost the mark.
    Foreign {
        /// The watched name.
        name: Arc<str>,
        /// The address.
        ip: IpAddr,
    },
}

impl Links {
    /// Watches these names and no others. Afterwards, if it is [`incomplete`](Self::incomplete),
    /// have everything told anew ([`Events::dump`](crate::host::netlink::Events::dump)).
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
                    watched.push(Watched { name, link: None, addresses: Vec::new(), changes: 0 });
                }
            }
        }
        self.watched = watched;
        // What was told so far of a fresh picture may lack the new names.
        if self.resynced.take().is_some() {
            self.incomplete = true;
        }
    }

    /// Whether something is there that was not told about, because nobody watched it at the time:
    /// have everything told anew. Says so once.
    pub fn incomplete(&mut self) -> bool {
        std::mem::take(&mut self.incomplete)
    }

    /// Takes in what happened; `changed` is told what that means for the watched interfaces.
    /// While everything is told anew nothing is said, and at its end what was missed.
    pub fn apply(&mut self, event: NetEvent, mut changed: impl FnMut(Change)) {
        match event {
            NetEvent::Resync => {
                let unknown = |old: &Watched| Watched {
                    name: old.name.clone(),
                    link: None,
                    addresses: Vec::new(),
                    changes: 0,
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

    /// The interface of a watched name, if there is one.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.find(name)?.link.as_ref()
    }

    /// The addresses of the interface of a watched name, in the kernel's order.
    pub fn addresses(&self, name: &str) -> &[Found] {
        self.find(name).map_or(&[], |watched| &watched.addresses)
    }

    /// How often the addresses of the interface of a watched name have changed: as long as this is
    /// the same number, so are they.
    pub fn changes(&self, name: &str) -> u64 {
        self.find(name).map_or(0, |watched| watched.changes)
    }

    fn find(&self, name: &str) -> Option<&Watched> {
        self.watched.iter().find(|watched| &*watched.name == name)
    }
}

impl Watched {
    /// Takes one event in. Says whether an interface was adopted whose addresses are not known.
    fn apply(&mut self, event: &NetEvent, changed: &mut impl FnMut(Change)) -> bool {
        let index = self.link.as_ref().map(|link| link.index);
        match event {
            NetEvent::Link(link) => {
                let names = std::iter::once(&link.name).chain(&link.alt_names);
                let named = names.into_iter().any(|name| **name == *self.name);
                match (named, index == Some(link.index)) {
                    (true, true) => self.update_link(link, changed),
                    (true, false) => {
                        self.lose_link(changed);
                        self.link = Some(link.clone());
                        changed(Change::Appeared { name: self.name.clone(), link: link.clone() });
                        return true;
                    }
                    (false, true) => self.lose_link(changed),
                    (false, false) => {}
                }
            }
            NetEvent::LinkGone { index: gone } if index == Some(*gone) => self.lose_link(changed),
            NetEvent::Address(found) if index == Some(found.index) => {
                self.update_address(found, changed)
            }
            NetEvent::AddressGone { index: gone, ip, prefix } if index == Some(*gone) => {
                let known = self.addresses.iter().position(|a| a.ip == *ip && a.prefix == *prefix);
                if let Some(known) = known {
                    let lost = self.addresses.remove(known);
                    self.changes += 1;
                    if lost.ours {
                        changed(Change::Lost { name: self.name.clone(), ip: lost.ip });
                    }
                    changed(Change::Addresses { name: self.name.clone() });
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

    /// No interface has the name any more.
    fn lose_link(&mut self, changed: &mut impl FnMut(Change)) {
        self.addresses.clear();
        self.changes += 1;
        if self.link.take().is_some() {
            changed(Change::Gone { name: self.name.clone() });
        }
    }

    fn update_link(&mut self, link: &Link, changed: &mut impl FnMut(Change)) {
        if self.link.as_ref() != Some(link) {
            self.link = Some(link.clone());
            changed(Change::Changed { name: self.name.clone(), link: link.clone() });
        }
    }

    fn update_address(&mut self, found: &Found, changed: &mut impl FnMut(Change)) {
        let name = &self.name;
        let known = self.addresses.iter_mut().find(|known| known.address() == found.address());
        match known {
            // A renewal.
            Some(known) if known == found => return,
            Some(known) => {
                if known.ours && !found.ours {
                    changed(Change::Lost { name: name.clone(), ip: found.ip });
                    changed(Change::Foreign { name: name.clone(), ip: found.ip });
                }
                *known = *found;
            }
            None => {
                self.addresses.push(*found);
                if !found.ours {
                    changed(Change::Foreign { name: name.clone(), ip: found.ip });
                }
            }
        }
        self.changes += 1;
        changed(Change::Addresses { name: name.clone() });
    }

    /// Says what differs from a picture that was taken afresh, and takes it over.
    fn replace_with(&mut self, new: Watched, changed: &mut impl FnMut(Change)) {
        let name = &self.name;
        let same = match (&self.link, &new.link) {
            (Some(old), Some(new)) => old.index == new.index,
            (None, _) | (_, None) => false,
        };
        if !same {
            self.lose_link(changed);
            if let Some(link) = new.link {
                changed(Change::Appeared { name: self.name.clone(), link: link.clone() });
                self.link = Some(link);
            }
        } else if let Some(link) = &new.link
            && self.link.as_ref() != Some(link)
        {
            changed(Change::Changed { name: name.clone(), link: link.clone() });
            self.link = new.link;
        }

        let name = &self.name;
        let ours = |list: &[Found], wanted: bool| -> BTreeSet<(IpAddr, u8)> {
            let ours = list.iter().filter(|address| address.ours == wanted);
            ours.map(|address| (address.ip, address.prefix)).collect()
        };
        for (ip, _) in ours(&self.addresses, true).difference(&ours(&new.addresses, true)) {
            changed(Change::Lost { name: name.clone(), ip: *ip });
        }
        for (ip, _) in ours(&new.addresses, false).difference(&ours(&self.addresses, false)) {
            changed(Change::Foreign { name: name.clone(), ip: *ip });
        }
        if self.addresses != new.addresses {
            self.addresses = new.addresses;
            self.changes += 1;
            changed(Change::Addresses { name: name.clone() });
        }
    }
}
