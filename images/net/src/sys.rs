//! The system calls that rustix has no safe face for: addresses and options of packet and netlink sockets, a
//! received packet's checksum state, signals as a descriptor. One call in each function.

#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::{c_int, c_void, socklen_t};

use crate::datagram::UdpChecksum;

/// Ethernet's number for IPv4.
const ETH_P_IP: u16 = 0x0800;

/// Turns the -1 of a system call into its error.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sets a socket option to a plain value.
fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as socklen_t;
    // SAFETY: `value` is a live reference to `len` initialised bytes for the length of the call; the kernel copies
    // them. The types used below (int, sock_fprog) are what these options take and hold no padding.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, ptr::from_ref(value).cast(), len) })?;
    Ok(())
}

/// Binds a netlink socket to these multicast groups (a bit set); with 0 only for answers.
///
/// # Errors
/// As bind(2).
pub fn bind_netlink(fd: BorrowedFd<'_>, groups: u32) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sockaddr_nl: integers only.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups = groups;
    let len = size_of_val(&address) as socklen_t;
    // SAFETY: `address` lives through the call and `len` is its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })?;
    Ok(())
}

/// Has the kernel explain refusals in words (`NETLINK_EXT_ACK`).
///
/// # Errors
/// As setsockopt(2); kernels before 4.12 do not know it.
pub fn ask_for_explanations(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &(1 as c_int))
}

/// One instruction of a classic BPF program.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

const fn op(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

/// Passes whole IPv4 packets of UDP to port 68; offsets are from the IP header. Everything else on the link never
/// wakes the program.
const DHCP_REPLIES: [Instruction; 9] = [
    op(0x30, 9, 0, 0),      // A = protocol
    op(0x15, 17, 0, 6),     // UDP?
    op(0x28, 6, 0, 0),      // A = flags and fragment offset
    op(0x45, 0x3fff, 4, 0), // a fragment?
    op(0xb1, 0, 0, 0),      // X = header length
    op(0x48, 2, 0, 0),      // A = destination port
    op(0x15, 68, 0, 1),     // the client's?
    op(0x06, 0xffff, 0, 0), // take it
    op(0x06, 0, 0, 0),      // drop it
];

/// Lets only packets that may be DHCP replies through.
///
/// # Errors
/// As setsockopt(2).
pub fn filter_dhcp_replies(fd: BorrowedFd<'_>) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: DHCP_REPLIES.len() as u16,
        // The kernel only reads through it; `Instruction` has the layout of sock_filter.
        filter: ptr::from_ref(&DHCP_REPLIES).cast_mut().cast(),
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Has each packet come with its state ([`recv_packet`] needs it).
///
/// # Errors
/// As setsockopt(2).
pub fn ask_for_packet_state(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &(1 as c_int))
}

/// The link-layer address of IPv4 on an interface.
fn link_address(index: u32, mac: [u8; 6]) -> libc::sockaddr_ll {
    // SAFETY: all-zero bytes are a valid sockaddr_ll: integers only.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_IP.to_be();
    address.sll_ifindex = index.cast_signed();
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&mac);
    address
}

/// Binds a packet socket to IPv4 on one interface. Nothing is received before.
///
/// # Errors
/// As bind(2): `ENODEV` when there is no such interface any more.
pub fn bind_packet(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let address = link_address(index, [0; 6]);
    let len = size_of_val(&address) as socklen_t;
    // SAFETY: `address` lives through the call and `len` is its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })?;
    Ok(())
}

/// Sends an IP packet in a broadcast frame.
///
/// # Errors
/// As sendto(2).
pub fn broadcast_packet(fd: BorrowedFd<'_>, index: u32, packet: &[u8]) -> io::Result<()> {
    let address = link_address(index, [0xff; 6]);
    let len = size_of_val(&address) as socklen_t;
    // SAFETY: `packet` is a live slice given with its own length; `address` lives through the call, `len` is its size.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            ptr::from_ref(&address).cast(),
            len,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What comes with a packet on request (`struct tpacket_auxdata`).
#[derive(Clone, Copy)]
#[repr(C)]
struct PacketState {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

/// The checksum is still to be written by hardware (`TP_STATUS_CSUMNOTREADY`).
const STATUS_CSUM_NOT_READY: u32 = 8;

/// A place for one control message, aligned as its header needs.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    space: [u8; 64],
}

/// Receives one packet: its whole length, which is more than the buffer's when it was cut, and whether its UDP
/// checksum was written.
///
/// # Errors
/// As recvmsg(2); `WouldBlock` when there is none.
pub fn recv_packet(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, UdpChecksum)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control { space: [0; 64] };
    // SAFETY: all-zero bytes are a valid msghdr: integers and null pointers.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast::<c_void>();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: every pointer in `message` is to a local or to `buffer`, all live and exclusively ours through the call,
    // with their own sizes.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;

    let mut checksum = UdpChecksum::Written;
    // SAFETY: the kernel has set msg_controllen to what it wrote into `control`; FIRSTHDR gives null or a header in it.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if !header.is_null() {
        // SAFETY: not null, and inside `control`, which is aligned for a header.
        let head = unsafe { header.read() };
        // SAFETY: the length of a header with data of this size, without reading anything.
        let full = unsafe { libc::CMSG_LEN(size_of::<PacketState>() as u32) } as usize;
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA)
            && head.cmsg_len as usize >= full
        {
            // SAFETY: the header says that a whole PacketState follows; read_unaligned asks for no alignment.
            let state = unsafe { libc::CMSG_DATA(header).cast::<PacketState>().read_unaligned() };
            if state.status & STATUS_CSUM_NOT_READY != 0 {
                checksum = UdpChecksum::NotWritten;
            }
        }
    }
    Ok((len, checksum))
}

/// Ties a socket to one interface, whatever the routes say.
///
/// # Errors
/// As setsockopt(2).
pub fn bind_to_device(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: `name` is a live slice given with its own length; the kernel copies at most IFNAMSIZ - 1 bytes of it.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            name.len() as socklen_t,
        )
    })?;
    Ok(())
}

/// Blocks SIGTERM and SIGINT and has them come through a descriptor instead.
///
/// # Errors
/// As sigprocmask(2) and signalfd(2).
pub fn termination_signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set, sigaddset then changes an initialised one; both signal numbers exist.
    let set = unsafe {
        check(libc::sigemptyset(set.as_mut_ptr()))?;
        check(libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM))?;
        check(libc::sigaddset(set.as_mut_ptr(), libc::SIGINT))?;
        set.assume_init()
    };
    // SAFETY: `set` is initialised; a null third argument asks for no old mask. The process has one thread.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) })?;
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the descriptor was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A packet socket for DHCP replies on one interface, not blocking.
///
/// # Errors
/// As the calls above; `PermissionDenied` without `CAP_NET_RAW`.
pub fn dhcp_packet_socket(index: u32) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    // Protocol 0: receives nothing until it is bound, so nothing slips in before the filter.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    filter_dhcp_replies(socket.as_fd())?;
    ask_for_packet_state(socket.as_fd())?;
    bind_packet(socket.as_fd(), index)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_filter_instruction_has_the_kernel_s_layout() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
    }

    #[test]
    fn the_packet_socket_hears_datagrams_for_port_68_and_nothing_else() {
        let socket = match dhcp_packet_socket(1) {
            Ok(socket) => socket,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                println!("skipped: needs root");
                return;
            }
            Err(e) => panic!("{e}"),
        };
        // Interface 1 is loopback in every namespace.
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"other", "127.0.0.1:69").unwrap();
        sender.send_to(b"hello, client", "127.0.0.1:68").unwrap();
        let mut buffer = [0; 2048];
        // Loopback delivers within the send call. Another test may send to the port too.
        loop {
            let (len, checksum) = recv_packet(socket.as_fd(), &mut buffer).unwrap();
            let payload = crate::datagram::payload_for_client(&buffer[..len], checksum).unwrap();
            if payload == b"hello, client" {
                assert_eq!(checksum, UdpChecksum::NotWritten);
                break;
            }
        }
    }
}
