//! Network interfaces that are made for a container or moved into it, by rtnetlink(7).

use kit_spec::node::runtime::Interface;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the interface of a container's earlier run may take to go away with its namespace.
const GONE_WITHIN: Duration = Duration::from_secs(5);

const RTM_NEWLINK: u16 = 16;
const RTM_SETLINK: u16 = 19;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// `struct ifinfomsg` of linux/rtnetlink.h, which says nothing here: attributes name the interface.
const IFINFOMSG: [u8; 16] = [0; 16];

/// Makes an interface, or takes the machine's, and gives it to a process's network namespace.
///
/// # Errors
/// The kernel's.
pub fn give(interface: &Interface, pid: i32) -> io::Result<()> {
    // No protocol is NETLINK_ROUTE, which is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let kind = match (interface.add.as_str(), interface.peer.as_str()) {
        ("", "") => return ask(&socket, &moved(&interface.name, pid)),
        ("", _) => "veth",
        (kind, _) => kind,
    };
    let first = (!interface.create_in_root).then_some(pid);
    let made = made(&interface.name, kind, &interface.peer, first);
    let end = Instant::now() + GONE_WITHIN;
    loop {
        match ask(&socket, &made) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => break result?,
        }
    }
    if interface.create_in_root { ask(&socket, &moved(&interface.name, pid)) } else { Ok(()) }
}

/// A new interface; of a pair, the peer stays on the machine.
fn made(name: &str, kind: &str, peer: &str, pid: Option<i32>) -> Vec<u8> {
    let mut info = attribute(IFLA_INFO_KIND, kind.as_bytes());
    if !peer.is_empty() {
        let peer = [&IFINFOMSG[..], &named(peer)].concat();
        info.extend(attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer)));
    }
    let mut body = [&IFINFOMSG[..], &named(name), &attribute(IFLA_LINKINFO, &info)].concat();
    if let Some(pid) = pid {
        body.extend(attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes()));
    }
    message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body)
}

fn moved(name: &str, pid: i32) -> Vec<u8> {
    let pid = attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes());
    message(RTM_SETLINK, 0, &[&IFINFOMSG[..], &named(name), &pid].concat())
}

fn named(name: &str) -> Vec<u8> {
    attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
}

/// `struct rtattr`: length, type, value, padded to 4 bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = 4 + value.len() as u16;
    let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = 16 + body.len() as u32;
    let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
    [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], body].concat()
}

/// Sends a request and reads its acknowledgement: an error number behind the header, 0 for none.
fn ask(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    rustix::net::send(socket, message, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (len, _) = rustix::net::recv(socket, &mut answer, RecvFlags::empty())?;
    match answer
        .get(16..20)
        .filter(|_| len >= 20)
        .map(|code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]))
    {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A process in a network namespace of its own.
    struct Sandbox(Child);

    impl Sandbox {
        fn new() -> Option<Sandbox> {
            let ours = std::fs::read_link("/proc/self/ns/net").ok()?;
            let mut command = Command::new("unshare");
            let child = command.args(["-n", "sleep", "60"]).stdin(Stdio::null()).spawn().ok()?;
            let sandbox = Sandbox(child);
            let end = Instant::now() + Duration::from_secs(10);
            while Instant::now() < end {
                match std::fs::read_link(format!("/proc/{}/ns/net", sandbox.pid())) {
                    Ok(theirs) if theirs != ours => return Some(sandbox),
                    _ => std::thread::yield_now(),
                }
            }
            None
        }

        fn pid(&self) -> i32 {
            self.0.id() as i32
        }

        fn interfaces(&self) -> String {
            std::fs::read_to_string(format!("/proc/{}/net/dev", self.pid())).unwrap()
        }
    }

    impl Drop for Sandbox {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn interface(name: &str, add: &str, peer: &str, create_in_root: bool) -> Interface {
        Interface { name: name.into(), add: add.into(), peer: peer.into(), create_in_root }
    }

    #[test]
    fn interfaces_are_made_in_and_moved_to_a_namespace() {
        // In a namespace of the test's own in place of the machine's.
        let tried = std::thread::spawn(|| {
            let machine = Sandbox::new()?;
            let container = Sandbox::new()?;
            crate::sys::enter_net(machine.pid()).ok()?;
            give(&interface("eth0", "", "vethA", false), container.pid()).unwrap();
            give(&interface("eth1", "veth", "vethB", true), container.pid()).unwrap();
            let (inside, outside) = (container.interfaces(), machine.interfaces());
            assert!(inside.contains("eth0:") && inside.contains("eth1:"), "{inside}");
            assert!(outside.contains("vethA:") && outside.contains("vethB:"), "{outside}");
            give(&interface("vethB", "", "", false), container.pid()).unwrap();
            assert!(container.interfaces().contains("vethB:"));
            let error = give(&interface("nowhere", "", "", false), container.pid()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
            Some(())
        });
        if tried.join().unwrap().is_none() {
            println!("skipped: needs root and unshare(1)");
        }
    }
}
