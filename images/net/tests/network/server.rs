//! A DHCP server for what dnsmasq does not do: leases of seconds, refusals, silence.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use kit_net::dhcp::message::{self, Message, Options};
use kit_net::dhcp::option::{self, ClasslessRoute, encode_classless_routes};
use kit_net::dhcp::reply::kind as kinds;
use kit_net::ipv4::Cidr;

use crate::bed::Bed;

const ME: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// What to say to a message.
pub enum Answer {
    Silence,
    /// To a DISCOVER an offer, to a REQUEST an acknowledgement.
    Yes {
        address: Ipv4Addr,
        options: Options,
    },
    /// To a DISCOVER nothing.
    No {
        text: String,
    },
}

impl Answer {
    /// An address in 10.77.0.0/24 for so many seconds, with this server as router and name server.
    pub fn lease(address: &str, secs: u32) -> Self {
        let me = ME.octets().to_vec();
        let options = Options::from([
            (option::SUBNET_MASK, vec![255, 255, 255, 0]),
            (option::ROUTERS, me.clone()),
            (option::DNS, me),
            (option::LEASE_TIME, secs.to_be_bytes().to_vec()),
        ]);
        Self::Yes { address: address.parse().unwrap(), options }
    }

    pub fn named(address: &str, hostname: &str) -> Self {
        let mut answer = Self::lease(address, 600);
        if let Self::Yes { options, .. } = &mut answer {
            options.insert(option::HOSTNAME, hostname.as_bytes().to_vec());
        }
        answer
    }

    /// An address without a network, and a router reached over the link, as clouds do it.
    pub fn single(address: &str, router: &str) -> Self {
        let router: Ipv4Addr = router.parse().unwrap();
        let mut answer = Self::lease(address, 600);
        if let Self::Yes { options, .. } = &mut answer {
            let routes = [
                ClasslessRoute { to: Cidr::DEFAULT, via: Some(router) },
                ClasslessRoute { to: Cidr::host(router), via: None },
            ];
            options.insert(option::SUBNET_MASK, vec![255; 4]);
            options.insert(option::CLASSLESS_ROUTES, encode_classless_routes(&routes));
        }
        answer
    }

    pub fn nak(text: &str) -> Self {
        Self::No { text: text.into() }
    }
}

/// The message type.
pub fn kind(message: &Message) -> u8 {
    message.options[&option::MESSAGE_TYPE][0]
}

type Log = Arc<Mutex<Vec<(Message, Ipv4Addr)>>>;

/// A server running on a thread; stops when dropped.
pub struct Server {
    log: Log,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listening when this returns.
    pub fn start(bed: &Bed, answer: impl FnMut(&Message) -> Answer + Send + 'static) -> Self {
        let (log, stop) = (Log::default(), Arc::new(AtomicBool::new(false)));
        let (ready, is_ready) = mpsc::channel();
        let (its_log, its_stop) = (log.clone(), stop.clone());
        let thread = bed.in_server(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap();
            socket.set_broadcast(true).unwrap();
            kit_net::sys::bind_to_device(socket.as_fd(), "srv0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            ready.send(()).unwrap();
            serve(&socket, &its_log, &its_stop, answer);
        });
        is_ready.recv().unwrap();
        Self { log, stop, thread: Some(thread) }
    }

    /// What has come in, with the sender's address; a question asked again is left out (the first answer on a fresh
    /// veth pair may be lost).
    pub fn seen(&self) -> Vec<(Message, Ipv4Addr)> {
        let mut seen = self.log.lock().unwrap().clone();
        seen.dedup_by_key(|(message, _)| (message.xid, kind(message)));
        seen
    }

    /// The types of what has come in.
    pub fn kinds(&self) -> Vec<u8> {
        self.seen().iter().map(|(message, _)| kind(message)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, log: &Log, stop: &AtomicBool, mut answer: impl FnMut(&Message) -> Answer) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, SocketAddr::V4(from))) = socket.recv_from(&mut buffer) else { continue };
        let request = message::decode(&buffer[..len]).unwrap();
        log.lock().unwrap().push((request.clone(), *from.ip()));
        let mut reply = Message::reply(&request);
        let said = match answer(&request) {
            Answer::Silence => continue,
            Answer::Yes { address, options } => {
                reply.yiaddr = address;
                reply.options = options;
                if kind(&request) == kinds::DISCOVER { kinds::OFFER } else { kinds::ACK }
            }
            Answer::No { .. } if kind(&request) == kinds::DISCOVER => continue,
            Answer::No { text } => {
                reply.ciaddr = Ipv4Addr::UNSPECIFIED;
                reply.options.insert(option::TEXT, text.into_bytes());
                kinds::NAK
            }
        };
        reply.options.insert(option::MESSAGE_TYPE, vec![said]);
        reply.options.insert(option::SERVER, ME.octets().to_vec());
        let to = if from.ip().is_unspecified() { Ipv4Addr::BROADCAST } else { *from.ip() };
        // The link may have gone meanwhile.
        let _ = socket.send_to(&reply.encode(), (to, 68));
    }
}
