//! From a blob's bytes to the archive's bytes.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), of one member or several.
    Gzip,
    /// Zstandard (RFC 8878), of one frame or several, skippable ones included.
    Zstd,
    /// xz, as in Debian packages; no image's layer is.
    Xz,
}

impl Compression {
    /// What a layer's media type says, for the types of the OCI image specification (layer.md) and of Docker.
    /// Registries hold layers whose type is wrong: [`Compression::sniff`] is the better witness.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let kind = media_type
            .strip_prefix("application/vnd.oci.image.layer.v1.")
            .or_else(|| media_type.strip_prefix("application/vnd.oci.image.layer.nondistributable.v1."))
            .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.diff."))
            .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff."))?;
        match kind {
            "tar" => Some(Compression::None),
            "tar+gzip" | "tar.gzip" => Some(Compression::Gzip),
            "tar+zstd" | "tar.zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// What the first bytes (six are enough) say; what is not known counts as not compressed.
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }
}

/// Reads the archive out of the compressed stream. A stream that is cut off or damaged ends in an error, never early.
pub struct Decoder<R: Read>(Inner<R>);

enum Inner<R: Read> {
    None(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Source<R>>),
    Xz(Box<XzReader<Source<R>>>),
}

/// As much as a decoder of `xz -9` wants, and a little more. Zstandard's own limit is 128 MiB of window.
const XZ_MEMORY_KIB: u32 = 96 << 10;

impl<R: Read> Decoder<R> {
    /// Starts decoding; without a `compression`, the first bytes tell.
    ///
    /// # Errors
    /// When the first bytes cannot be read, or there is no memory for a decoder.
    pub fn new(reader: R, compression: Option<Compression>) -> io::Result<Self> {
        let mut source = Source::new(reader);
        let compression = match compression {
            Some(known) => known,
            None => Compression::sniff(source.peek(6)?),
        };
        Ok(Decoder(match compression {
            Compression::None => Inner::None(source),
            Compression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => Inner::Zstd(zstd::stream::read::Decoder::with_buffer(source)?),
            Compression::Xz => Inner::Xz(Box::new(XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB))),
        }))
    }

    /// Reads the compressed stream to its end and gives it back, so that whoever hashes it has seen it all.
    ///
    /// # Errors
    /// As reading.
    pub fn finish(mut self) -> io::Result<R> {
        let mut scrap = vec![0; 64 << 10];
        while retry(|| self.read(&mut scrap))? > 0 {}
        let mut source = match self.0 {
            Inner::None(source) => source,
            Inner::Gzip(decoder) => decoder.into_inner(),
            Inner::Zstd(decoder) => decoder.finish(),
            Inner::Xz(decoder) => decoder.into_inner(),
        };
        while retry(|| source.inner.read(&mut scrap))? > 0 {}
        Ok(source.inner)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::None(source) => source.read(buf),
            Inner::Gzip(decoder) => decoder.read(buf),
            Inner::Zstd(decoder) => decoder.read(buf),
            Inner::Xz(decoder) => decoder.read(buf),
        }
    }
}

/// A buffered reader whose first bytes can be looked at, however few come at a time.
struct Source<R> {
    inner: R,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: Read> Source<R> {
    fn new(inner: R) -> Self {
        Source { inner, buf: vec![0; 128 << 10].into(), start: 0, end: 0 }
    }

    /// The first `want` bytes, or all there are. Only before anything was read.
    fn peek(&mut self, want: usize) -> io::Result<&[u8]> {
        while self.end < want {
            match retry(|| self.inner.read(&mut self.buf[self.end..]))? {
                0 => break,
                n => self.end += n,
            }
        }
        Ok(&self.buf[..self.end])
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.end = retry(|| self.inner.read(&mut self.buf))?;
            self.start = 0;
        }
        Ok(&self.buf[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && buf.len() >= self.buf.len() {
            return self.inner.read(buf);
        }
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

/// Tries again when a signal got in between.
pub(super) fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
