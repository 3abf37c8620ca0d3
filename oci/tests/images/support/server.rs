//! A small HTTP/1.1 server on a loopback port: one thread a connection, whatever answers a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Where an open range begins.
    pub fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// How the body goes out.
enum Body {
    /// With its length.
    Whole(Vec<u8>),
    /// With the length of the whole, but only so many bytes, and then the connection ends.
    Cut(Vec<u8>, usize),
    /// As cut, and then nothing until the client goes away.
    Stalled(Vec<u8>, usize),
    /// In chunks, without a length.
    Chunked(Vec<u8>),
}

pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Body::Whole(Vec::new()) }
    }

    pub fn not_found() -> Answer {
        let body = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"not known here"}]}"#;
        Answer::bytes(body.to_vec()).with_status(404)
    }

    pub fn bytes(bytes: Vec<u8>) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: Body::Whole(bytes) }
    }

    pub fn json(value: &serde_json::Value) -> Answer {
        Answer::bytes(value.to_string().into_bytes()).header("content-type", "application/json")
    }

    pub fn redirect(location: &str) -> Answer {
        Answer::status(307).header("location", location)
    }

    pub fn with_status(mut self, status: u16) -> Answer {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn cut(self, at: usize) -> Answer {
        Answer { body: Body::Cut(self.content(), at), ..self }
    }

    pub fn stalled(self, at: usize) -> Answer {
        Answer { body: Body::Stalled(self.content(), at), ..self }
    }

    pub fn chunked(self) -> Answer {
        Answer { body: Body::Chunked(self.content()), ..self }
    }

    fn content(&self) -> Vec<u8> {
        match &self.body {
            Body::Whole(bytes) | Body::Cut(bytes, _) | Body::Stalled(bytes, _) | Body::Chunked(bytes) => {
                bytes.clone()
            }
        }
    }

    /// Writes the answer; returns whether the connection can serve another.
    fn write(&self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<bool> {
        let content = self.content();
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", self.status);
        match &self.body {
            Body::Chunked(_) => head.push_str("transfer-encoding: chunked\r\n"),
            _ => head.push_str(&format!("content-length: {}\r\n", content.len())),
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if head_only {
            return Ok(true);
        }
        match &self.body {
            Body::Whole(bytes) => stream.write_all(bytes)?,
            Body::Cut(bytes, at) => {
                stream.write_all(&bytes[..*at])?;
                return Ok(false);
            }
            Body::Stalled(bytes, at) => {
                stream.write_all(&bytes[..*at])?;
                let _ = stream.read(&mut [0; 1]);
                return Ok(false);
            }
            Body::Chunked(bytes) => {
                for chunk in bytes.chunks(1000) {
                    write!(stream, "{:x}\r\n", chunk.len())?;
                    stream.write_all(chunk)?;
                    stream.write_all(b"\r\n")?;
                }
                stream.write_all(b"0\r\n\r\n")?;
            }
        }
        Ok(true)
    }
}

type Handler = dyn Fn(&Seen) -> Answer + Send + Sync;

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub fn start(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server =
            Server { address: listener.local_addr().unwrap(), seen: Arc::default(), ended: Arc::default() };
        let (seen, ended) = (server.seen.clone(), server.ended.clone());
        let handler: Arc<Handler> = Arc::new(handler);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, handler) = (seen.clone(), handler.clone());
                thread::spawn(move || stream.map(|stream| serve(stream, &seen, &*handler)));
            }
        });
        server
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A reference to `repo` in this registry, `tag` with its `:` or `@`.
    pub fn reference(&self, tag: &str) -> kit_oci::reference::Reference {
        format!("{}/some/repo{tag}", self.host()).parse().unwrap()
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests had this in their path.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Seen>>, handler: &Handler) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader) {
        all.lock().unwrap().push(seen.clone());
        let answer = handler(&seen);
        if !answer.write(&mut writer, seen.method == "HEAD").unwrap_or(false) {
            let _ = writer.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    let mut next = || {
        line.clear();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = next()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = next()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut seen = Seen { method, path: path.to_owned(), query: query.to_owned(), headers, body: Vec::new() };
    let length = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut seen.body).ok()?;
    Some(seen)
}
