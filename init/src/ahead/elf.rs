//! What an ELF file (System V ABI, chapters 4 and 5) is linked with. The file may hold anything.

/// Program headers that are looked at, and entries of the dynamic section.
const MOST: usize = 4096;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// The names in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Linked {
    /// The program that loads it.
    pub interpreter: Option<String>,
    /// Libraries, without a directory unless the file says one.
    pub libraries: Vec<String>,
}

/// A segment: its kind, where it is in the file and in memory, and how long.
struct Segment {
    kind: u32,
    offset: usize,
    address: u64,
    len: usize,
}

/// What a 64-bit little-endian file is linked with: nothing if it is none.
pub(super) fn linked(file: &[u8]) -> Linked {
    let segments = segments(file).unwrap_or_default();
    let of = |kind| segments.iter().find(|segment| segment.kind == kind);
    let contents = |segment: &Segment| file.get(segment.offset..segment.offset.checked_add(segment.len)?);
    let interpreter = of(PT_INTERP).and_then(contents).and_then(text);
    let libraries = of(PT_DYNAMIC).and_then(contents).and_then(|table| libraries(file, &segments, table));
    Linked { interpreter, libraries: libraries.unwrap_or_default() }
}

fn segments(file: &[u8]) -> Option<Vec<Segment>> {
    file.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let (start, size, count) = (long(file, 32)? as usize, short(file, 54)?, short(file, 56)?);
    let segment = |number: usize| {
        let header = file.get(start.checked_add(number * size)?..)?;
        Some(Segment {
            kind: u32::from_le_bytes(header.get(..4)?.try_into().ok()?),
            offset: long(header, 8)? as usize,
            address: long(header, 16)?,
            len: long(header, 32)? as usize,
        })
    };
    Some((0..count.min(MOST)).map_while(segment).collect())
}

fn libraries(file: &[u8], segments: &[Segment], table: &[u8]) -> Option<Vec<String>> {
    let entry = |entry: &[u8]| Some((long(entry, 0)?, long(entry, 8)?));
    let entries: Vec<(u64, u64)> = table.chunks_exact(16).take(MOST).filter_map(entry).collect();
    let (_, address) = entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?;
    let holds = |segment: &&Segment| {
        let inside = address.checked_sub(segment.address);
        segment.kind == PT_LOAD && inside.is_some_and(|inside| inside < segment.len as u64)
    };
    let segment = segments.iter().find(holds)?;
    let names = file.get(segment.offset.checked_add((address - segment.address) as usize)?..)?;
    let needed = entries.iter().filter(|(tag, _)| *tag == DT_NEEDED);
    Some(needed.filter_map(|(_, at)| text(names.get(usize::try_from(*at).ok()?..)?)).collect())
}

/// Text up to a NUL.
fn text(bytes: &[u8]) -> Option<String> {
    let len = bytes.iter().position(|byte| *byte == 0)?;
    Some(std::str::from_utf8(&bytes[..len]).ok()?.to_owned())
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with an interpreter and two libraries.
    fn file() -> Vec<u8> {
        let mut file = vec![0; 512];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32] = 64;
        file[54] = 56;
        file[56] = 3;
        let headers =
            [(PT_LOAD, 0u64, 0x1000u64, 512u64), (PT_INTERP, 300, 0x112c, 8), (PT_DYNAMIC, 320, 0x1140, 64)];
        for (number, (kind, offset, address, len)) in headers.into_iter().enumerate() {
            let at = 64 + 56 * number;
            file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            for (field, value) in [(8, offset), (16, address), (32, len)] {
                file[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        file[300..308].copy_from_slice(b"/lib/ld\0");
        for (number, (tag, value)) in
            [(DT_NEEDED, 1), (DT_STRTAB, 0x1000 + 400), (DT_NEEDED, 8)].into_iter().enumerate()
        {
            let at = 320 + 16 * number;
            file[at..at + 8].copy_from_slice(&u64::to_le_bytes(tag));
            file[at + 8..at + 16].copy_from_slice(&u64::to_le_bytes(value));
        }
        file[400..415].copy_from_slice(b"\0libz.1\0libc.6\0");
        file
    }

    #[test]
    fn the_interpreter_and_the_libraries_are_named() {
        let linked = linked(&file());
        assert_eq!(linked.interpreter.as_deref(), Some("/lib/ld"));
        assert_eq!(linked.libraries, ["libz.1", "libc.6"]);
    }

    #[test]
    fn a_script_and_a_static_program_are_linked_with_nothing() {
        assert_eq!(linked(b"#!/bin/sh\n"), Linked::default());
        assert_eq!(linked(&std::fs::read("/proc/self/exe").unwrap()), Linked::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(changes in prop::collection::vec((0usize..512, any::<u8>()), 0..40)) {
            let mut file = file();
            for (at, byte) in changes {
                file[at] = byte;
            }
            let _ = linked(&file);
        }
    }
}
