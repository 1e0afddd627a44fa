//! A node with many virtual routers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use vipd::config::Config;
use vipd::vrrp::{Event, Instant, LinkAddress, LinkId, LinkState, Node, Recorded, VirtualRouter};

/// The number of virtual routers.
pub const ROUTERS: u64 = 255;
/// Their link.
pub const LINK: LinkId = LinkId(0);
/// Their advert interval.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// The address of a host.
pub fn own(host: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host).into()
}

/// A host with 255 virtual routers whose interface is up.
pub fn node(host: u8, priority: u8) -> (Node, Instant) {
    let table = |vrid: u64| {
        format!(
            "[[virtual_router]]\nname = \"v{vrid}\"\ninterface = \"eth0\"\nvrid = {vrid}\n\
             priority = {priority}\nadvert_interval = \"100ms\"\nlink_delay = \"0s\"\n\
             addresses = [\"10.0.0.{vrid}\"]\n"
        )
    };
    let text: String = (1..=ROUTERS).map(table).collect();
    let config = Config::parse("many.toml", &text).unwrap().vrrp;
    let mut node = Node::new(&config);
    let mut actions = Vec::new();
    let now = Instant::START + Duration::from_secs(1);
    let routers: Vec<_> = node.routers().map(VirtualRouter::id).collect();
    for router in routers {
        node.handle(now, Event::Found(router, Recorded::default()), &mut actions).unwrap();
    }
    let addresses = [LinkAddress::of_host(own(host), 24)];
    let state = LinkState { up: true, addresses: &addresses, ..LinkState::default() };
    let link = Event::Link { link: LINK, state: Some(state) };
    node.handle(now, link, &mut actions).unwrap();
    (node, now)
}
