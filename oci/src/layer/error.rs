//! Why a layer cannot be read.

use std::io;

use kit_spec::tree::{PathError, TreeError, TreePath};

/// Why a layer cannot be read or applied. Positions are bytes of the uncompressed archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The stream below failed: its source, the decompressor, or a check of its digest.
    #[error("read the archive at byte {offset}")]
    Read {
        /// Where the archive had got to.
        offset: u64,
        /// What the stream said.
        #[source]
        source: io::Error,
    },
    /// The archive ends where something was still to come.
    #[error("the archive ends at byte {offset}, within {within}")]
    Truncated {
        /// Its length.
        offset: u64,
        /// What is cut off.
        within: String,
    },
    /// A header's bytes do not add up: this is no tar archive, or it is damaged.
    #[error("the header at byte {offset} is damaged: it says checksum `{stored}`, its bytes make {computed}")]
    Checksum {
        /// Where the header is.
        offset: u64,
        /// The field as written, made printable.
        stored: String,
        /// The sum of the unsigned bytes, in octal.
        computed: String,
    },
    /// One block of zeros, then something else: neither an entry nor the end.
    #[error("a lone block of zeros at byte {offset} is followed by data")]
    LoneZeroBlock {
        /// Where the block is.
        offset: u64,
    },
    /// The last header says something of an entry that does not come.
    #[error("the archive ends at byte {offset} after an extended header, without its entry")]
    NoEntry {
        /// Where the end is.
        offset: u64,
    },
    /// A PAX header or a GNU long name that cannot be used.
    #[error("the {kind} at byte {offset} cannot be used")]
    Extension {
        /// Where its header is.
        offset: u64,
        /// What it is.
        kind: &'static str,
        /// What is wrong with it.
        #[source]
        flaw: Flaw,
    },
    /// An entry that cannot be used.
    #[error("entry `{entry}` (header at byte {offset}) cannot be used")]
    Entry {
        /// Its name as written, made printable.
        entry: String,
        /// Where its header is.
        offset: u64,
        /// What is wrong with it.
        #[source]
        flaw: Flaw,
    },
    /// More entries than the reader was allowed.
    #[error("the archive holds more than {limit} entries")]
    Entries {
        /// [`Options::max_entries`](super::Options::max_entries).
        limit: u64,
    },
    /// [`Layer::next`](super::Layer::next) was called after it had failed.
    #[error("reading went on after an error")]
    AfterError,
    /// The consumer could not take a file's content, or it could not be read.
    #[error("store the content of {path}")]
    Store {
        /// The file.
        path: TreePath,
        /// What the consumer said.
        #[source]
        source: io::Error,
    },
    /// A change that the tree does not take.
    #[error("apply the layer to the tree")]
    Tree {
        /// What the tree said.
        #[source]
        source: TreeError,
    },
}

/// What is wrong with one header.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The name is no path inside a tree.
    #[error("its name cannot be used")]
    Name(#[source] PathError),
    /// The name means the root, and the entry is no directory.
    #[error("it names the root, which can only be a directory")]
    Root,
    /// A hard link to something that is no path inside the tree.
    #[error("its target cannot be used")]
    LinkTarget(#[source] PathError),
    /// A hard link to the root.
    #[error("its target is the root")]
    LinkRoot,
    /// A symbolic link that no kernel would make.
    #[error("its target {0}")]
    Symlink(&'static str),
    /// A whiteout that does not say what it hides, or something below a whiteout.
    #[error("{0}")]
    Whiteout(&'static str),
    /// A number that is none.
    #[error("{field} `{raw}` is not a number")]
    Number {
        /// The header's field or the PAX key.
        field: &'static str,
        /// As written, made printable.
        raw: String,
    },
    /// A number that has no meaning.
    #[error("{field} {value} is not between 0 and {limit}")]
    Range {
        /// The header's field or the PAX key.
        field: &'static str,
        /// As written.
        value: i64,
        /// The highest that has.
        limit: u64,
    },
    /// Larger than the reader was allowed.
    #[error("{what} of {len} is more than the {limit} allowed")]
    TooLarge {
        /// What is too large, and its unit.
        what: &'static str,
        /// How large.
        len: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A kind of entry that a layer cannot hold.
    #[error("its type `{0}` is not one that a layer can hold")]
    Type(String),
    /// A PAX record that is none.
    #[error("its PAX record at byte {at} {why}")]
    Record {
        /// The byte within the PAX header.
        at: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A sparse file's map that makes no sense.
    #[error("its map of sparse data {0}")]
    Sparse(&'static str),
    /// Headers that contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// What stops an entry: itself, or the archive around it.
pub(super) enum Problem {
    Flaw(Flaw),
    Layer(LayerError),
}

impl Problem {
    pub(super) fn of(self, name: &[u8], offset: u64) -> LayerError {
        match self {
            Problem::Flaw(flaw) => LayerError::Entry { entry: shown(name), offset, flaw },
            Problem::Layer(error) => error,
        }
    }
}

impl From<Flaw> for Problem {
    fn from(flaw: Flaw) -> Self {
        Problem::Flaw(flaw)
    }
}

impl From<LayerError> for Problem {
    fn from(error: LayerError) -> Self {
        Problem::Layer(error)
    }
}

/// Bytes for a message: at most the first 200, made printable.
pub(super) fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(&raw[..raw.len().min(200)]).escape_debug().to_string()
}
