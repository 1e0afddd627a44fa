//! Several virtual routers in one node.

use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::{Action, Address, Role, RouterConfig, State, Vrid};

use crate::fixture::*;

#[test]
fn many_routers_are_each_called_at_their_own_deadline() {
    let many: Vec<RouterConfig> = (1..=200_u8)
        .map(|n| RouterConfig {
            name: Arc::from(format!("r{n}")),
            vrid: Vrid::new(n).unwrap(),
            addresses: Arc::from([Address::host(ip(&format!("10.0.1.{n}")))]),
            advert_interval: centis(u16::from(n)),
            ..priority(n)
        })
        .collect();
    let mut host = Host::started(&many);
    host.link_up();
    host.begin();
    host.wait(secs(7));
    for (router, config) in host.node.routers().zip(&many) {
        let id = router.id();
        let own =
            |action: &Action| matches!(action, Action::Advertise { router, .. } if *router == id);
        let times: Vec<Duration> = host
            .done
            .iter()
            .filter(|(_, action)| own(action))
            .map(|(at, _)| *at - host.begun)
            .collect();
        let interval = config.advert_interval.duration();
        let first = master_down(config.priority.get(), interval);
        let expected: Vec<Duration> =
            (0..).map(|n| first + n * interval).take_while(|at| *at <= secs(7)).collect();
        assert_eq!(times, expected, "{}", config.name);
    }
}

#[test]
fn many_routers_do_not_hear_each_others_adverts() {
    let other = RouterConfig {
        name: Arc::from("other"),
        vrid: Vrid::new(52).unwrap(),
        addresses: addresses(&["10.0.0.101"]),
        ..web()
    };
    let mut host = Host::started(&[web(), other.clone()]);
    host.link_up();
    host.wait(secs(10));
    host.hears_advert(&advert_of(&other, 200), ABOVE).unwrap();
    assert_eq!(host.node.find("web").unwrap().role(), Role::Master);
    assert_eq!(host.node.find("other").unwrap().role(), Role::Leaving);
}

#[test]
fn a_deadline_lies_in_the_state_that_waits_for_it() {
    let host = Host::backup(web());
    let State::Backup { takeover_at: Some(at) } = host.router().state() else { panic!() };
    assert_eq!(host.node.deadline(), Some(*at));
    let mut down = Host::backup(web());
    down.link_down();
    assert_eq!(down.node.deadline(), None);
}
