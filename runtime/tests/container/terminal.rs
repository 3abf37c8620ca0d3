//! Terminals: handed to a socket, and copied in the foreground.

use crate::support::{bundle, output_of, succeeded};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

/// Receives one message and the descriptor that comes with it.
pub fn receive(socket: &UnixStream) -> (Vec<u8>, OwnedFd) {
    let mut bytes = vec![0; 64 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message =
        rustix::net::recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    bytes.truncate(message.bytes);
    (bytes, descriptor.unwrap())
}

/// Reads from a terminal until something is there.
fn read_until(terminal: &mut File, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut bytes = [0; 1024];
        let count = terminal.read(&mut bytes).unwrap_or_else(|e| panic!("{e}: after {text:?}"));
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    text
}

#[test]
fn the_terminal_of_a_created_container_goes_to_the_console_socket() {
    let mut bundle = bundle!();
    let path = bundle.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({"height": 33, "width": 77}));
    bundle.sh("tty; stty size; echo to console > /dev/console; read line; echo got $line");
    bundle.ok(&["create", "--console-socket", path.to_str().unwrap()]);
    let (socket, _) = listener.accept().unwrap();
    let mut terminal = File::from(receive(&socket).1);
    bundle.ok(&["start"]);
    let text = read_until(&mut terminal, "to console");
    assert!(text.starts_with("/dev/pts/0\r\n33 77\r\n"), "{text:?}");
    terminal.write_all(b"word\n").unwrap();
    read_until(&mut terminal, "got word");
}

#[test]
fn a_process_that_enters_can_have_a_terminal() {
    let mut bundle = bundle!();
    let path = bundle.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.sh("exec sleep 1000");
    bundle.ok(&["run", "--detach"]);
    let mut command = bundle.command(&[
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        path.to_str().unwrap(),
        &bundle.id,
    ]);
    succeeded(&output_of(command.args(["sh", "-c", "tty; read line"]).stdin(Stdio::null())));
    let (socket, _) = listener.accept().unwrap();
    let mut terminal = File::from(receive(&socket).1);
    assert!(read_until(&mut terminal, "\n").starts_with("/dev/pts/0\r\n"));
}

#[test]
fn in_the_foreground_kitc_copies_between_its_terminal_and_the_containers() {
    let mut bundle = bundle!();
    bundle.set("/process/terminal", json!(true));
    bundle.sh("stty size; read line; echo got $line; exit 5");
    let master =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let size = rustix::termios::Winsize { ws_row: 21, ws_col: 43, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let mut child = bundle
        .command(&["run", &bundle.id])
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut terminal = File::from(master);
    terminal.write_all(b"word\r").unwrap();
    let text = read_until(&mut terminal, "got word");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert!(text.contains("43"), "{text:?}");
    // The caller's terminal is as it was.
    let modes = rustix::termios::tcgetattr(&slave).unwrap().local_modes;
    assert!(modes.contains(rustix::termios::LocalModes::ICANON));
}

#[test]
fn a_terminal_and_the_way_it_is_asked_for_must_fit() {
    let mut bundle = bundle!();
    assert!(bundle.fails(&["create", "--console-socket", "/x"]).contains("process.terminal is not true"));
    bundle.set("/process/terminal", json!(true));
    assert!(bundle.fails(&["create"]).contains("without a --console-socket nobody would have the terminal"));
    assert!(bundle.fails(&["run", "--detach"]).contains("without a --console-socket"));
    let error = bundle.fails(&["create", "--console-socket", "/no/such"]);
    assert!(error.contains("--console-socket: connect to /no/such"), "{error}");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}
