//! Layers: tar archives of changes to a file tree (OCI image specification, layer.md), and the archives of Debian
//! packages.
//!
//! ```text
//!   blob ──Decoder──▶ archive ──Layer::next──▶ Entry { change, content }        one at a time, streamed
//!   (gzip zstd xz)    (tar)                       │ changes (a callback takes each content)
//!                                                 ▼
//!                                           Vec<Change<C>> ──apply──▶ Tree<C>      fold: all of it
//!
//!   verified blob ──unpack──▶ a directory, as overlayfs wants its lower ones           the same, onto a disk
//! ```
//!
//! [`Layer`] is a strict reader of what image builders, GNU tar, libarchive, Go and Python write: ustar, PAX, GNU long
//! names, numbers in base 256, sparse files of all forms (their holes are read as zeros), hard links, devices. It is
//! strict where two readers could see two different archives, and where an entry would leave the tree.
//!
//! Guarantees:
//! - every number that the archive declares is checked against a bound before memory is taken for it; contents are
//!   streamed and never kept,
//! - a name with `..`, a NUL byte or a length that Linux does not take is an error that shows it as written; absolute
//!   names count from the root of the tree,
//! - a damaged header or an archive that ends within something is an error. An archive that ends between two entries
//!   is taken as complete, as all other readers do: whether the blob is whole is for its digest to say,
//! - after [`Layer::finish`] the blob was read to its last byte, so a reader below that hashes has seen all of it.
//!
//! Whiteouts hide what *earlier* layers brought, wherever in the archive they stand; [`fold`] sees to that. Names of
//! the AUFS file system (`.wh..wh.` and more) are passed over, but for the opaque whiteout.

use std::io::{self, Read};
use std::mem;

use kit_spec::tree::{Action, Change, TreePath};

mod ahead;
mod blocks;
mod compression;
mod error;
mod fold;
mod header;
mod member;
mod name;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;
pub mod unpack;

pub use compression::{Compression, Decoder};
pub use error::{Flaw, LayerError};
pub use fold::{apply, changes, fold};

use blocks::{BLOCK, Blocks, padding};
use error::{Problem, shown};
use header::Header;
use member::{Extensions, Type};
use name::Name;
use pax::Pax;
use sparse::{Map, MapReader, Stretch};

/// How an archive is read, and how large things in it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `.wh.` names are whiteouts, as in images; else they are names like any other, as in packages.
    pub whiteouts: bool,
    /// Entries.
    pub max_entries: u64,
    /// Bytes of one file, holes included.
    pub max_file: u64,
    /// Bytes of all files, holes included.
    pub max_total: u64,
    /// Bytes of one PAX header or GNU long name; these are held in memory.
    pub max_extension: u64,
    /// Bytes of an entry's path, and of a hard link's target.
    pub max_path: u64,
    /// Names in an entry's path.
    pub max_depth: u64,
}

impl Default for Options {
    /// Far above what images hold: 16 million entries, 256 GiB in one file, 1 TiB in all, the 1 MiB that Go allows a PAX
    /// header, and paths of any length and depth that Linux takes.
    fn default() -> Self {
        Options {
            whiteouts: true,
            max_entries: 16 << 20,
            max_file: 256 << 30,
            max_total: 1 << 40,
            max_extension: 1 << 20,
            max_path: 4095,
            max_depth: 2048,
        }
    }
}

impl Options {
    /// Refuses a path that is too long or too deep.
    fn allow(&self, path: &TreePath, bytes: &'static str, names: &'static str) -> Result<(), Flaw> {
        let depth = path.components().count() as u64;
        let len = path.as_bytes().len() as u64;
        for (what, len, limit) in [(bytes, len, self.max_path), (names, depth, self.max_depth)] {
            if len > limit {
                return Err(Flaw::TooLarge { what, len, limit });
            }
        }
        Ok(())
    }
}

/// Reads a layer, an entry at a time. See the module's text.
pub struct Layer<R: Read> {
    blocks: Blocks<Decoder<R>>,
    options: Options,
    state: State,
    globals: Pax,
    entries: u64,
    total: u64,
    current: Current,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Failed,
}

/// The entry whose content comes next.
#[derive(Default)]
struct Current {
    name: Vec<u8>,
    /// Bytes of it that are still in the archive.
    stored: u64,
    /// Bytes after them, up to the next block.
    padding: u64,
    sparse: Option<Map>,
}

/// One change, and what a regular file holds.
pub struct Entry<'a, R: Read> {
    /// Where and what; a file's content comes apart.
    pub change: Change<()>,
    /// A regular file's content; empty for everything else. What is not read is passed over.
    pub content: Content<'a, R>,
}

/// Reads one file's content: exactly as many bytes as its change says, or an error.
pub struct Content<'a, R: Read>(&'a mut Layer<R>);

impl<R: Read> Layer<R> {
    /// Opens a layer as images have it; without a `compression`, the first bytes tell.
    ///
    /// # Errors
    /// [`LayerError::Read`] when the first bytes cannot be read.
    pub fn open(reader: R, compression: Option<Compression>) -> Result<Self, LayerError> {
        Self::with_options(reader, compression, Options::default())
    }

    /// As [`Layer::open`], with options.
    ///
    /// # Errors
    /// As [`Layer::open`].
    pub fn with_options(
        reader: R,
        compression: Option<Compression>,
        options: Options,
    ) -> Result<Self, LayerError> {
        let decoder =
            Decoder::new(reader, compression).map_err(|source| LayerError::Read { offset: 0, source })?;
        Ok(Layer {
            blocks: Blocks::new(decoder),
            options,
            state: State::Reading,
            globals: Pax::default(),
            entries: 0,
            total: 0,
            current: Current::default(),
        })
    }

    /// The next entry; none at the end of the archive. After an error there are no more.
    ///
    /// # Errors
    /// See [`LayerError`].
    #[allow(
        clippy::should_implement_trait,
        reason = "an entry borrows the reader, an iterator's item cannot"
    )]
    pub fn next(&mut self) -> Result<Option<Entry<'_, R>>, LayerError> {
        match self.state {
            State::Reading => {}
            State::Ended => return Ok(None),
            State::Failed => return Err(LayerError::AfterError),
        }
        self.state = State::Failed;
        let change = self.advance()?;
        self.state = if change.is_some() { State::Reading } else { State::Ended };
        Ok(change.map(|change| Entry { change, content: Content(self) }))
    }

    /// Reads the blob to its end, whatever is still in it, and gives it back.
    ///
    /// # Errors
    /// [`LayerError::AfterError`] if reading had failed; [`LayerError::Read`] as the stream below says, which may be
    /// that its digest is wrong.
    pub fn finish(self) -> Result<R, LayerError> {
        if self.state == State::Failed {
            return Err(LayerError::AfterError);
        }
        let offset = self.blocks.offset();
        self.blocks.into_input().finish().map_err(|source| LayerError::Read { offset, source })
    }

    /// Goes to the next entry that means something.
    fn advance(&mut self) -> Result<Option<Change<()>>, LayerError> {
        loop {
            self.pass_over()?;
            let mut extensions = Extensions::default();
            let (header, offset) = loop {
                let offset = self.blocks.offset();
                match self.header(offset)? {
                    None if extensions.is_empty() => return Ok(None),
                    None => return Err(LayerError::NoEntry { offset }),
                    Some(header) if !self.extension(&header, offset, &mut extensions)? => {
                        break (header, offset);
                    }
                    Some(_) => {}
                }
            };
            self.entries += 1;
            if self.entries > self.options.max_entries {
                return Err(LayerError::Entries { limit: self.options.max_entries });
            }
            let change = self.entry(&header, extensions);
            if let Some(change) = change.map_err(|problem| problem.of(&self.current.name, offset))? {
                return Ok(Some(change));
            }
        }
    }

    /// Drops what is left of the current entry.
    fn pass_over(&mut self) -> Result<(), LayerError> {
        let current = mem::take(&mut self.current);
        self.blocks.skip(current.stored + current.padding, "").map_err(|error| match error {
            LayerError::Truncated { offset, .. } => {
                LayerError::Truncated { offset, within: format!("the content of `{}`", shown(&current.name)) }
            }
            other => other,
        })
    }

    /// The next header; none at the end, which is two blocks of zeros, one as the archive's last, or no more bytes.
    fn header(&mut self, offset: u64) -> Result<Option<Header>, LayerError> {
        let Some(block) = self.blocks.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Header::new(block, offset).map(Some);
        }
        match self.blocks.block()? {
            Some(second) if second != [0; BLOCK] => Err(LayerError::LoneZeroBlock { offset }),
            _ => Ok(None),
        }
    }

    /// Takes a header that is about the entries after it; false if this is an entry.
    fn extension(&mut self, header: &Header, offset: u64, to: &mut Extensions) -> Result<bool, LayerError> {
        let kind = match header.kind() {
            b'x' => "PAX header",
            b'g' => "global PAX header",
            b'L' => "GNU long name",
            b'K' => "GNU long link name",
            b'V' => "GNU volume label",
            _ => return Ok(false),
        };
        let wrong = |flaw| LayerError::Extension { offset, kind, flaw };
        let len = header.size().map_err(wrong)?;
        let limit = self.options.max_extension;
        if len > limit {
            return Err(wrong(Flaw::TooLarge { what: "a length in bytes", len, limit }));
        }
        let mut data = vec![0; len as usize];
        self.blocks.padded(&mut data, kind)?;
        match header.kind() {
            b'x' => self.globals.clone().local(&data).and_then(|pax| once(&mut to.pax, pax)),
            b'g' => self.globals.global(&data),
            b'L' => once(&mut to.long_name, before_nul(data)),
            b'K' => once(&mut to.long_link, before_nul(data)),
            _ => Ok(()),
        }
        .map_err(wrong)?;
        Ok(true)
    }

    /// Reads an entry up to its content; none if it means nothing. Sets `current`, its name first.
    fn entry(&mut self, header: &Header, mut extensions: Extensions) -> Result<Option<Change<()>>, Problem> {
        self.current.name = extensions.name(header);
        extensions.agree()?;
        let link = extensions.link_name(header).to_vec();
        let pax = extensions.pax.take().unwrap_or_else(|| self.globals.clone());
        let mut kind = Type::of(header)?;
        let len = if kind.has_data() { self.measure(kind, header, &pax)? } else { 0 };
        if kind == Type::File && self.current.name.ends_with(b"/") {
            if len > 0 {
                return Err(Flaw::Contradiction("it has a directory's name and a file's content").into());
            }
            kind = Type::Dir;
        }
        let path = TreePath::parse(&self.current.name).map_err(Flaw::Name)?;
        self.options.allow(&path, "a path in bytes", "a path in names")?;
        let name = if self.options.whiteouts { name::classify(path)? } else { Name::Plain(path) };
        let (path, action) = match name {
            Name::Metadata => return Ok(None),
            Name::Whiteout(path) => (path, Action::Remove),
            Name::Opaque(path) => (path, Action::Opaque),
            Name::Plain(path) if path.is_root() && kind != Type::Dir => return Err(Flaw::Root.into()),
            Name::Plain(path) => (path, member::action(kind, header, pax, &link, len)?),
        };
        if let Action::Link(target) = &action {
            self.options.allow(target, "a target in bytes", "a target in names")?;
        }
        Ok(Some(Change { path, action }))
    }

    /// Finds out how long a file is and how much of it is in the archive.
    fn measure(&mut self, kind: Type, header: &Header, pax: &Pax) -> Result<u64, Problem> {
        self.current.stored = pax.size.map_or_else(|| header.size(), Ok)?;
        self.current.padding = padding(self.current.stored);
        self.current.sparse = match kind {
            Type::OldSparse => Some(self.old_sparse_map(header)?),
            _ if pax.sparse.is_used() => Some(self.pax_sparse_map(&pax.sparse)?),
            _ => None,
        };
        let len = self.current.sparse.as_ref().map_or(self.current.stored, Map::len);
        let limit = self.options.max_file;
        if len > limit {
            return Err(Flaw::TooLarge { what: "a file in bytes", len, limit }.into());
        }
        self.total = self.total.saturating_add(len);
        let (len_so_far, limit) = (self.total, self.options.max_total);
        if len_so_far > limit {
            return Err(
                Flaw::TooLarge { what: "the sum of all files in bytes", len: len_so_far, limit }.into()
            );
        }
        Ok(len)
    }

    /// Reads the rest of an old GNU sparse map, in blocks after the header.
    fn old_sparse_map(&mut self, header: &Header) -> Result<Map, Problem> {
        let mut segments = Vec::new();
        let mut more = header.sparse(&mut segments)?;
        while more {
            let block = self.blocks.block()?.ok_or_else(|| self.blocks.truncated("a map of sparse data"))?;
            more = header::sparse_extension(&block, &mut segments)?;
            sparse::bounded(segments.len())?;
        }
        Ok(Map::new(segments, header.real_size()?, self.current.stored)?)
    }

    /// Takes the map of a PAX header, or, of form 1.0, reads it in front of the data.
    fn pax_sparse_map(&mut self, sparse: &pax::Sparse) -> Result<Map, Problem> {
        let len = sparse.len.ok_or(Flaw::Sparse("does not come with the length of the file"))?;
        let segments = match sparse.version {
            (0, _) => sparse.map.clone().ok_or(Flaw::Sparse("is missing"))?,
            (1, 0) => {
                let mut reader = MapReader::default();
                loop {
                    let left = self.current.stored.checked_sub(BLOCK as u64);
                    self.current.stored = left.ok_or(Flaw::Sparse("does not end"))?;
                    let block =
                        self.blocks.block()?.ok_or_else(|| self.blocks.truncated("a map of sparse data"))?;
                    if let Some(segments) = reader.block(&block)? {
                        break segments;
                    }
                }
            }
            _ => return Err(Flaw::Sparse("is of an unknown version").into()),
        };
        Ok(Map::new(segments, len, self.current.stored)?)
    }
}

impl<R: Read> Content<'_, R> {
    /// Passes over a hole that comes next in a sparse file, and says how long it is in bytes; 0 where data comes next.
    pub fn skip_hole(&mut self) -> u64 {
        match self.0.current.sparse.as_mut().map(|map| (map.stretch(), map)) {
            Some((Stretch::Hole(len), map)) => {
                map.advance(len);
                len
            }
            _ => 0,
        }
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Layer { blocks, current, .. } = &mut *self.0;
        let (len, hole) = match current.sparse.as_mut().map(Map::stretch) {
            None => (current.stored, false),
            Some(Stretch::Data(len)) => (len, false),
            Some(Stretch::Hole(len)) => (len, true),
            Some(Stretch::End) => (0, false),
        };
        let want = usize::try_from(len).unwrap_or(usize::MAX).min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let n = if hole {
            buf[..want].fill(0);
            want
        } else {
            let n = blocks.read(&mut buf[..want])?;
            if n == 0 {
                let why = format!("the archive ends {} bytes before the end of this file", current.stored);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            current.stored -= n as u64;
            n
        };
        if let Some(map) = &mut current.sparse {
            map.advance(n as u64);
        }
        Ok(n)
    }
}

fn once<T>(to: &mut Option<T>, value: T) -> Result<(), Flaw> {
    match to.replace(value) {
        Some(_) => Err(Flaw::Contradiction("it is the second for one entry")),
        None => Ok(()),
    }
}

fn before_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}
