//! Changes of links that tests make.

use std::io;
use std::os::fd::AsRawFd as _;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use vipd::lab::{LinkEditor, Namespace};

/// What else can be done to the links of a namespace. All errors are the kernel's.
pub trait LinkChanges {
    /// Removes a link; of a cable both ends.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// Renames a link, as udev may.
    fn rename(&self, name: &str, new_name: &str) -> io::Result<()>;

    /// Moves a link to another namespace.
    fn move_to(&self, name: &str, namespace: &Namespace) -> io::Result<()>;

    /// Takes a link out of its bridge.
    fn leave_bridge(&self, name: &str) -> io::Result<()>;

    /// Sets a link administratively down: the other end of a cable loses its carrier.
    fn down(&self, name: &str) -> io::Result<()>;
}

impl LinkChanges for LinkEditor {
    fn delete(&self, name: &str) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelLink(named(name)), 0)
    }

    fn rename(&self, name: &str, new_name: &str) -> io::Result<()> {
        let mut link = named(new_name);
        link.header.index = self.index(name)?;
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn move_to(&self, name: &str, namespace: &Namespace) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::NetNsFd(namespace.file().as_raw_fd()));
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn leave_bridge(&self, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        link.attributes.push(LinkAttribute::Controller(0));
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn down(&self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}
