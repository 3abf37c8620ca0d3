use std::io::{Cursor, Read, Write};

use kit_spec::tree::{Action, Change, Device, Kind, Meta, Tree, TreePath, Xattrs};

use super::{Compression, Layer, LayerError, Options, apply, changes, fold};

mod corpus;
mod foreign;
mod fuzzing;
mod names;
mod ordering;
mod sparseness;
mod streams;
mod syntax;
mod unpacking;
mod writer;

use writer::{Format, Member, archive};

fn path(raw: &str) -> TreePath {
    raw.parse().expect("a clean path")
}

fn meta(mode: u16) -> Meta {
    Meta::root_owned(mode, 7)
}

fn put(at: &str, kind: Kind<Vec<u8>>) -> Change<Vec<u8>> {
    Change { path: path(at), action: Action::Put(meta(0o644), kind) }
}

fn file(content: &[u8]) -> Kind<Vec<u8>> {
    Kind::File { len: content.len() as u64, content: content.to_vec() }
}

/// Reads all of an archive, contents included, and the blob to its end.
fn read(bytes: &[u8]) -> Result<Vec<Change<Vec<u8>>>, LayerError> {
    read_with(bytes, Options::default())
}

fn read_with(bytes: &[u8], options: Options) -> Result<Vec<Change<Vec<u8>>>, LayerError> {
    let layer = Layer::with_options(bytes, None, options)?;
    let (changes, rest) = changes(layer, |_, len, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        assert_eq!(bytes.len() as u64, len, "a content is as long as it was said to be");
        Ok(bytes)
    })?;
    assert!(rest.is_empty(), "the blob was read to its end");
    Ok(changes)
}

/// An error with all its causes, as the user sees it.
fn told<T: std::fmt::Debug>(result: Result<T, LayerError>) -> String {
    let error = result.expect_err("this archive is not to be accepted");
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        told += ": ";
        told += &error.to_string();
        cause = error.source();
    }
    told
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
