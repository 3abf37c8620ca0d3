//! kit-net against a real kernel: two network namespaces joined by a veth pair, a DHCP server in the one (dnsmasq, or
//! one made of the crate's own codec where dnsmasq cannot do what is needed), the program in the other.
//!
//! Needs root and iproute2.

mod bed;
mod server;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use bed::Bed;
use server::{Answer, Server};

/// A new test bed; leaves the test, having said why, where none can be had.
macro_rules! bed {
    () => {
        match Bed::new() {
            Ok(bed) => bed,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        }
    };
}

/// How long anything may take before a test gives up; nothing waits for it in vain but a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// DHCP on the client's end of the cable.
const DHCP: &str = r#"{"interfaces": [{"name": "eth*"}]}"#;

#[test]
fn a_lease_from_dnsmasq_is_configured() {
    let bed = bed!();
    let Some(dnsmasq) = bed.dnsmasq(&[
        "--dhcp-range=10.77.0.50,10.77.0.50,255.255.255.0,2m",
        "--dhcp-option=3,10.77.0.1",
        "--dhcp-option=6,10.77.0.1,9.9.9.9",
        "--dhcp-option=15,example.test",
        "--dhcp-option=119,one.test,two.one.test",
        "--dhcp-option=26,1400",
    ]) else {
        println!("skipped: dnsmasq is not installed");
        return;
    };
    let mut up = bed.up(DHCP, &["--once"]);
    assert_eq!(up.wait(), Some(0), "{}", up.transcript());

    bed.assert_shows(
        "address show eth0",
        &["inet 10.77.0.50/24 brd 10.77.0.255 scope global dynamic", "mtu 1400"],
    );
    // The kernel ends it should nobody renew it, and IPv6 is as the kernel left it.
    bed.assert_shows("address show eth0", &["valid_lft 12", "inet6 fe80"]);
    bed.assert_shows("route", &["default via 10.77.0.1 dev eth0 proto dhcp src 10.77.0.50 metric 10"]);
    assert_eq!(
        bed.resolv_conf(),
        "# written by kit-net\nsearch one.test two.one.test\nnameserver 10.77.0.1\nnameserver 9.9.9.9\n"
    );
    let status = bed.status(&["--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let eth0 = &status["interfaces"][0];
    assert_eq!(eth0["name"], "eth0");
    assert_eq!(eth0["addresses"][0], "10.77.0.50/24");
    assert_eq!(eth0["lease"]["server"], "10.77.0.1");
    assert!(eth0["lease"]["renews_in_secs"].as_u64().unwrap() <= 60, "{status}");
    assert!(bed.status(&[]).contains("  10.77.0.50/24 leased from 10.77.0.1, renews in "));
    drop(dnsmasq);
}

#[test]
fn classless_routes_from_dnsmasq_replace_the_router() {
    let bed = bed!();
    let Some(_dnsmasq) = bed.dnsmasq(&[
        "--dhcp-range=10.77.0.50,10.77.0.50,255.255.255.0,2m",
        "--dhcp-option=3,10.77.0.1",
        "--dhcp-option=121,0.0.0.0/0,10.77.0.9,192.168.40.0/22,10.77.0.8",
    ]) else {
        println!("skipped: dnsmasq is not installed");
        return;
    };
    let mut up = bed.up(DHCP, &["--once"]);
    assert_eq!(up.wait(), Some(0), "{}", up.transcript());
    bed.assert_shows("route", &["default via 10.77.0.9 dev eth0", "192.168.40.0/22 via 10.77.0.8 dev eth0"]);
    assert!(!bed.show("route").contains("via 10.77.0.1 "), "{}", bed.show("route"));
}

#[test]
fn a_lease_from_the_network_inside_qemu_is_configured() {
    let bed = bed!();
    bed.ip("tuntap add dev eth5 mode tap");
    let Some(_qemu) = bed.qemu_user_network("eth5") else {
        println!("skipped: qemu-system-x86_64 is not installed");
        return;
    };
    let mut up = bed.up(r#"{"interfaces": [{"name": "eth5"}]}"#, &["--once"]);
    assert_eq!(up.wait(), Some(0), "{}", up.transcript());
    bed.assert_shows("address show eth5", &["inet 10.0.2.15/24 brd 10.0.2.255"]);
    bed.assert_shows("route", &["default via 10.0.2.2 dev eth5 proto dhcp"]);
    assert_eq!(bed.resolv_conf(), "# written by kit-net\nnameserver 10.0.2.3\n");
}

#[test]
fn a_lease_that_dnsmasq_refuses_after_a_move_is_replaced() {
    let bed = bed!();
    let range = |host: u8| format!("--dhcp-range=10.77.0.{host},10.77.0.{host},255.255.255.0,2m");
    let Some(first) = bed.dnsmasq(&[&range(50)]) else {
        println!("skipped: dnsmasq is not installed");
        return;
    };
    let mut once = bed.up(DHCP, &["--once"]);
    assert_eq!(once.wait(), Some(0), "{}", once.transcript());
    drop(first);
    std::fs::remove_file(bed.path("dnsmasq.leases")).unwrap();
    bed.ip("address flush dev eth0");
    let mut second = bed.dnsmasq(&[&range(80), "--dhcp-authoritative"]).unwrap();
    let mut service = bed.up(DHCP, &[]);
    service.expect("eth0: loses 10.77.0.50/24: 10.77.0.1 refuses it (");
    service.expect("eth0: has 10.77.0.80/24 from 10.77.0.1");
    second.expect("DHCPNAK(srv0) 10.77.0.50");
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn the_service_takes_over_the_lease_of_the_form_at_boot() {
    let bed = bed!();
    let server = Server::start(&bed, |_| Answer::lease("10.77.0.60", 600));
    let mut once = bed.up(DHCP, &["--once"]);
    assert_eq!(once.wait(), Some(0), "{}", once.transcript());
    assert_eq!(server.kinds(), [1, 3]);

    let mut again = bed.up(DHCP, &["--once"]);
    assert_eq!(again.wait(), Some(0), "{}", again.transcript());
    let mut service = bed.up(DHCP, &[]);
    service.expect("eth0: takes over 10.77.0.60/24 from 10.77.0.1 for ");
    assert_eq!(service.terminate(), Some(0), "{}", service.transcript());
    assert_eq!(server.kinds(), [1, 3], "no further question was asked");
    // Nothing is released.
    bed.assert_shows("address show eth0", &["inet 10.77.0.60/24"]);
    assert_eq!(bed.resolv_conf(), "# written by kit-net\nnameserver 10.77.0.1\n");
}

#[test]
fn a_lease_is_confirmed_when_the_address_is_gone() {
    let bed = bed!();
    let server = Server::start(&bed, |_| Answer::lease("10.77.0.61", 600));
    let mut once = bed.up(DHCP, &["--once"]);
    assert_eq!(once.wait(), Some(0), "{}", once.transcript());
    bed.ip("address flush dev eth0");
    let mut service = bed.up(DHCP, &[]);
    service.expect("eth0: has 10.77.0.61/24 from 10.77.0.1");
    assert_eq!(server.kinds(), [1, 3, 3], "a REQUEST without DISCOVER");
    assert_eq!(service.terminate(), Some(0));
    bed.assert_shows("address show eth0", &["inet 10.77.0.61/24"]);
}

#[test]
fn a_lease_is_renewed_at_t1_with_its_server_by_unicast() {
    let bed = bed!();
    let server = Server::start(&bed, |_| Answer::lease("10.77.0.62", 6));
    let mut service = bed.up(DHCP, &[]);
    service.expect("eth0: has 10.77.0.62/24 from 10.77.0.1 for ");
    // Three times three seconds: the first lease would be over by then, for us and for the kernel.
    for _ in 0..3 {
        service.expect("eth0: keeps 10.77.0.62/24 from 10.77.0.1 for ");
    }
    bed.assert_shows("address show eth0", &["inet 10.77.0.62/24"]);
    let seen = server.seen();
    assert_eq!(server.kinds()[..4], [1, 3, 3, 3]);
    for (renewal, from) in &seen[2..] {
        assert_eq!(renewal.ciaddr, Ipv4Addr::new(10, 77, 0, 62));
        assert_eq!(*from, renewal.ciaddr, "sent from the leased address");
    }
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_refused_renewal_gives_the_address_up_and_gets_another() {
    let bed = bed!();
    let mut refused = false;
    let server = Server::start(&bed, move |message| {
        if !message.ciaddr.is_unspecified() && !refused {
            refused = true;
            return Answer::nak("moved away");
        }
        Answer::lease(if refused { "10.77.0.71" } else { "10.77.0.70" }, if refused { 600 } else { 8 })
    });
    let mut service = bed.up(DHCP, &[]);
    service.expect("eth0: has 10.77.0.70/24");
    service.expect("eth0: loses 10.77.0.70/24: 10.77.0.1 refuses it (moved away)");
    service.expect("eth0: has 10.77.0.71/24");
    assert_eq!(server.kinds(), [1, 3, 3, 1, 3]);
    assert_eq!(service.terminate(), Some(0));
    let shown = bed.show("address show eth0");
    assert!(shown.contains("inet 10.77.0.71/24") && !shown.contains("10.77.0.70"), "{shown}");
}

#[test]
fn a_lease_that_nobody_extends_ends() {
    let bed = bed!();
    let server = Server::start(&bed, |message| match message.ciaddr.is_unspecified() {
        true => Answer::lease("10.77.0.72", 6),
        false => Answer::Silence,
    });
    let mut service = bed.up(DHCP, &[]);
    service.expect("eth0: has 10.77.0.72/24");
    service.expect("eth0: loses 10.77.0.72/24: its time is over");
    service.expect("eth0: has 10.77.0.72/24");
    let kinds = server.kinds();
    assert_eq!(kinds[..2], [1, 3]);
    assert_eq!(kinds[kinds.len() - 2..], [1, 3]);
    // One question to the server, one to everyone.
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_refused_request_is_tried_again_after_a_rest() {
    let bed = bed!();
    let mut refused = false;
    let server = Server::start(&bed, move |message| {
        if server::kind(message) == 3 && !refused {
            refused = true;
            return Answer::nak("not you");
        }
        Answer::lease("10.77.0.73", 600)
    });
    // The first refusal, then a DISCOVER after three to five seconds.
    let mut once = bed.up(DHCP, &["--once", "--timeout", "20"]);
    assert_eq!(once.wait(), Some(0), "{}", once.transcript());
    assert_eq!(server.kinds(), [1, 3, 1, 3]);
}

#[test]
fn a_cloud_s_single_address_reaches_its_router() {
    let bed = bed!();
    let _server = Server::start(&bed, |_| Answer::single("10.88.0.2", "10.88.0.1"));
    let mut once = bed.up(DHCP, &["--once"]);
    assert_eq!(once.wait(), Some(0), "{}", once.transcript());
    bed.assert_shows("address show eth0", &["inet 10.88.0.2/32"]);
    bed.assert_shows(
        "route",
        &["10.88.0.1 dev eth0 proto dhcp scope link", "default via 10.88.0.1 dev eth0"],
    );
}

#[test]
fn without_a_carrier_the_time_runs_out_and_the_reason_is_said() {
    let bed = bed!();
    bed.ip_server("link set srv0 down");
    let mut once = bed.up(DHCP, &["--once", "--timeout", "1"]);
    assert_eq!(once.wait(), Some(1));
    assert_eq!(once.transcript(), "error: no interface has an address after 1 s: eth0: no carrier\n");
}

#[test]
fn without_a_server_the_time_runs_out_and_the_reason_is_said() {
    let bed = bed!();
    let mut once = bed.up(DHCP, &["--once", "--timeout", "1"]);
    assert_eq!(once.wait(), Some(1));
    let want =
        "error: no interface has an address after 1 s: eth0: looking for a DHCP server, 1 unanswered\n";
    assert!(once.transcript().ends_with(want), "{}", once.transcript());
}

#[test]
fn a_carrier_that_comes_late_is_used_at_once() {
    let bed = bed!();
    bed.ip_server("link set srv0 down");
    let server = Server::start(&bed, |_| Answer::lease("10.77.0.74", 600));
    let mut service = bed.up(DHCP, &[]);
    // It has switched its own end on.
    bed.wait_until_shown("link show eth0", "NO-CARRIER,BROADCAST,MULTICAST,UP");
    assert_eq!(server.kinds(), [0; 0]);
    bed.ip_server("link set srv0 up");
    service.expect("eth0: carrier");
    service.expect("eth0: has 10.77.0.74/24");
    bed.ip_server("link set srv0 down");
    service.expect("eth0: no carrier");
    bed.ip_server("link set srv0 up");
    service.expect("eth0: carrier");
    service.expect("eth0: keeps 10.77.0.74/24");
    assert_eq!(server.kinds(), [1, 3, 3]);
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn an_interface_that_comes_late_is_configured_and_one_that_goes_is_forgotten() {
    let bed = bed!();
    let _server = Server::start(&bed, |_| Answer::lease("10.77.0.75", 600));
    let mut service = bed.up(DHCP, &[]);
    service.expect("eth0: has 10.77.0.75/24");
    bed.ip("link add eth7 type veth peer name other");
    bed.ip("link set other up");
    service.expect("eth7: carrier");
    bed.wait_until_shown("link show eth7", ",UP");
    bed.ip("link del eth7");
    service.expect("eth7: gone");
    bed.ip("link del eth0");
    service.expect("eth0: gone");
    assert_eq!(service.terminate(), Some(0));
    assert_eq!(bed.resolv_conf(), "# written by kit-net\n");
    assert!(!bed.path("state/eth0.lease").exists());
}

#[test]
fn what_is_written_down_is_configured() {
    let bed = bed!();
    let config = r#"{"interfaces": [{
        "name": "eth0", "addresses": ["10.77.0.5/24", "192.168.9.1/32"], "gateway": "10.77.0.1", "mtu": 1300,
        "routes": [{"to": "10.99.0.0/16", "via": "10.77.0.2", "metric": 7}, {"to": "10.98.0.0/16"}],
        "dns": ["9.9.9.9", "2620:fe::fe"], "search": ["example.test"]
    }]}"#;
    for _ in 0..2 {
        let mut once = bed.up(config, &["--once"]);
        assert_eq!((once.wait(), once.transcript().as_str()), (Some(0), ""));
    }
    bed.assert_shows(
        "address show eth0",
        &["inet 10.77.0.5/24", "inet 192.168.9.1/32", "mtu 1300", "valid_lft forever"],
    );
    bed.assert_shows(
        "route",
        &[
            "default via 10.77.0.1 dev eth0 proto static metric 10",
            "10.99.0.0/16 via 10.77.0.2 dev eth0 proto static metric 7",
            "10.98.0.0/16 dev eth0 proto static scope link metric 10",
        ],
    );
    assert_eq!(
        bed.resolv_conf(),
        "# written by kit-net\nsearch example.test\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\n"
    );
}

#[test]
fn a_rule_without_dhcp_takes_back_what_dhcp_gave() {
    let bed = bed!();
    let _server = Server::start(&bed, |_| Answer::lease("10.77.0.78", 600));
    let mut once = bed.up(DHCP, &["--once"]);
    assert_eq!(once.wait(), Some(0), "{}", once.transcript());
    let mut once =
        bed.up(r#"{"interfaces": [{"name": "eth0", "addresses": ["10.77.0.5/24"]}]}"#, &["--once"]);
    assert_eq!((once.wait(), once.transcript().as_str()), (Some(0), ""));
    let (addresses, routes) = (bed.show("address show eth0"), bed.show("route"));
    assert!(addresses.contains("10.77.0.5/24") && !addresses.contains("10.77.0.78"), "{addresses}");
    assert!(!routes.contains("default"), "{routes}");
    assert!(!bed.path("state/eth0.lease").exists());
}

#[test]
fn ip_on_the_command_line_takes_the_place_of_the_configuration() {
    let bed = bed!();
    bed.cmdline("console=ttyS0 ip=10.77.0.6::10.77.0.1:255.255.255.0::eth0:none:1.1.1.1 quiet\n");
    let mut once =
        bed.up(r#"{"interfaces": [{"name": "eth0", "addresses": ["10.77.0.5/24"]}]}"#, &["--once"]);
    assert_eq!((once.wait(), once.transcript().as_str()), (Some(0), ""));
    let shown = bed.show("address show eth0");
    assert!(shown.contains("inet 10.77.0.6/24") && !shown.contains("10.77.0.5"), "{shown}");
    bed.assert_shows("route", &["default via 10.77.0.1 dev eth0 proto static"]);
    assert_eq!(bed.resolv_conf(), "# written by kit-net\nnameserver 1.1.1.1\n");

    bed.cmdline("ip=off");
    let mut once = bed.up(DHCP, &["--once"]);
    assert_eq!((once.wait(), once.transcript().as_str()), (Some(0), ""));
    bed.cmdline("ip=eth0:bootp");
    let mut once = bed.up(DHCP, &["--once"]);
    assert_eq!(once.wait(), Some(1));
    assert_eq!(
        once.transcript(),
        "error: read the kernel's command line\ncaused by: ip=eth0:bootp: `bootp`: only dhcp, on, any, both, off, \
         none and static are known\n"
    );
}

#[test]
fn without_configuration_interfaces_made_of_software_are_left_alone() {
    let bed = bed!();
    let mut once = bed.up("{}", &["--once", "--timeout", "1"]);
    assert_eq!(once.wait(), Some(1));
    assert_eq!(
        once.transcript(),
        "error: no interface has an address after 1 s: none matches the configuration\n"
    );
    assert!(bed.show("link show eth0").contains("state DOWN"), "{}", bed.show("link show eth0"));
}

#[test]
fn a_required_interface_is_waited_for() {
    let bed = bed!();
    let _server = Server::start(&bed, |_| Answer::lease("10.77.0.76", 600));
    bed.ip("link add eth1 type veth peer name other");
    let config = r#"{"interfaces": [{"name": "eth1", "required": true}, {"name": "eth0"}]}"#;
    let mut once = bed.up(config, &["--once", "--timeout", "4"]);
    assert_eq!(once.wait(), Some(1));
    let want = "error: not every required interface has an address after 4 s: eth1: no carrier\n";
    assert!(once.transcript().ends_with(want), "{}", once.transcript());
    // The other one got its address meanwhile.
    bed.assert_shows("address show eth0", &["inet 10.77.0.76/24"]);
}

#[test]
fn a_host_without_a_name_gets_one_only_when_asked() {
    let bed = bed!();
    let server = Server::start(&bed, |_| Answer::named("10.77.0.77", "node-7"));
    let named = |config: &str, before: &str| {
        let script = "echo \"$0\" > /proc/sys/kernel/hostname; \"$@\"; cat /proc/sys/kernel/hostname";
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-euc", script, before]);
        bed.wrap_up(command, config, &["--once"])
    };
    let asking = r#"{"interfaces": [{"name": "eth0", "hostname_from_dhcp": true}]}"#;
    for (config, before, want) in [
        (DHCP, "localhost", "localhost\n"),
        (DHCP, "kit-525400123456", "kit-525400123456\n"),
        (asking, "mine", "mine\n"),
        (asking, "kit-525400123456", "node-7\n"),
    ] {
        let output = named(config, before).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), want, "{output:?}");
        bed.forget_lease();
    }
    // A host with a name tells it.
    let names: Vec<Option<String>> = server
        .seen()
        .iter()
        .filter(|(message, _)| server::kind(message) == 1)
        .map(|(message, _)| message.options.get(&12).map(|name| String::from_utf8(name.clone()).unwrap()))
        .collect();
    assert_eq!(names, [None, Some("kit-525400123456".into()), Some("mine".into()), None]);
}

#[test]
fn a_configuration_that_is_wrong_is_told_key_by_key() {
    let bed = bed!();
    let mut once = bed.up(r#"{"interfaces": [{"name": "eth0", "mtu": 12}]}"#, &["--once"]);
    assert_eq!(once.wait(), Some(1));
    let path = bed.path("net.json");
    assert_eq!(
        once.transcript(),
        format!(
            "error: read {}\ncaused by: interfaces[0].mtu: `12`\ncaused by: not from 68 to 65535\n",
            path.display()
        )
    );
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_kit-net")).arg("down").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: unknown command `down`\nhint: kit-net --help\n"
    );
}
