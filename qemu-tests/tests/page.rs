//! `yaml/node.yml`, the node that the README shows: it serves its page to the host.

use kit_spec::artifact::Format;
use qemu_tests::guest::until;
use qemu_tests::{Boot, Guest, Kitbuild, or_skip};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

fn free_port() -> u16 {
    // Free now; whoever takes it before QEMU does makes the launch an error that names the port.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    listener.local_addr().expect("its address").port()
}

fn get(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: node\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_example_serves_its_page_and_powers_off() {
    let kitbuild = or_skip!(Kitbuild::staged());
    let node = qemu_tests::workspace().join("yaml/node.yml");
    let built = kitbuild.build(&node, Format::KernelInitrd).unwrap_or_else(|error| panic!("{error}"));
    let port = free_port();
    let publish = vec![format!("{port}:80").parse().expect("a port mapping")];
    let boot = Boot { memory_mib: 1024, publish, ..Boot::default() };
    let mut guest = Guest::boot(&built, &boot).unwrap_or_else(|error| panic!("{error}"));
    for unit in ["sysctl", "net", "dhcp", "web"] {
        guest.forbid(format!("kit: {unit} failed"));
    }
    guest.line("kit: ready", Duration::from_secs(180)).unwrap_or_else(|error| panic!("{error}"));
    let answer = until(Duration::from_secs(30), || get(port).ok().filter(|answer| !answer.is_empty()));
    let answer = answer.unwrap_or_else(|| panic!("no answer; the console:\n{}", guest.text()));
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("This page is served by a node that kitbuild made."), "{answer}");
    guest.press_power().unwrap_or_else(|error| panic!("{error}"));
    guest.nothing_forbidden().unwrap_or_else(|error| panic!("{error}"));
}
