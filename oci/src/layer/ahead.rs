//! Reads ahead in a thread, so that decompressing a layer and writing it to a disk go on at the same time.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use super::compression::retry;

/// Bytes handed over at a time: enough that handing over costs nothing, and it stays in a core's cache.
const CHUNK: usize = 256 << 10;

/// Chunks that wait at most: 2 MiB a layer.
const WAITING: usize = 8;

/// A reader that another thread reads. After an error there is nothing more.
pub(super) struct Ahead<R> {
    chunks: Receiver<io::Result<Vec<u8>>>,
    spare: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
    worker: JoinHandle<R>,
}

impl<R: Read + Send + 'static> Ahead<R> {
    /// Starts to read.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub(super) fn new(reader: R) -> io::Result<Self> {
        let (send, chunks) = sync_channel(WAITING);
        let (spare, spares) = channel();
        let worker = thread::Builder::new().name("layer".to_owned());
        let worker = worker.spawn(move || read_all(reader, &send, &spares))?;
        Ok(Ahead { chunks, spare, chunk: Vec::new(), at: 0, ended: false, worker })
    }

    /// Reads to the end and gives the reader back.
    ///
    /// # Errors
    /// The reader's.
    pub(super) fn finish(mut self) -> io::Result<R> {
        while !self.ended {
            self.next()?;
        }
        self.worker.join().map_err(|_| died())
    }

    /// Takes the next chunk; an empty one is the end.
    fn next(&mut self) -> io::Result<()> {
        let chunk = match self.chunks.recv() {
            Ok(chunk) => chunk.inspect_err(|_| self.ended = true)?,
            Err(_) => return Err(died()),
        };
        self.ended = chunk.is_empty();
        // The thread may be gone already, and then needs none.
        let _ = self.spare.send(std::mem::replace(&mut self.chunk, chunk));
        self.at = 0;
        Ok(())
    }
}

impl<R: Read + Send + 'static> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() && !self.ended {
            self.next()?;
        }
        let n = (&self.chunk[self.at..]).read(buffer)?;
        self.at += n;
        Ok(n)
    }
}

/// The thread: until the end, an error, or nobody listens any more.
fn read_all<R: Read>(mut reader: R, to: &SyncSender<io::Result<Vec<u8>>>, spares: &Receiver<Vec<u8>>) -> R {
    loop {
        let mut chunk = spares.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let filled = fill(&mut reader, &mut chunk);
        let last = !matches!(filled, Ok(1..));
        let filled = filled.map(|n| {
            chunk.truncate(n);
            chunk
        });
        if to.send(filled).is_err() || last {
            return reader;
        }
    }
}

fn fill(reader: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < chunk.len() {
        match retry(|| reader.read(&mut chunk[have..]))? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}

fn died() -> io::Error {
    io::Error::other("the thread that decompresses died")
}
