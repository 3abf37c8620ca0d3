//! Rock Ridge: names, modes, owners, times and symbolic links, in the fields that directory records have room for.
//!
//! System Use Sharing Protocol 1.10 and Rock Ridge Interchange Protocol 1.10. A record has at most 254 bytes; fields
//! that do not fit go to a continuation area (`CE`), which lies within one block.

use super::{BLOCK, Date};

/// Bytes of a `CE` field.
pub(super) const CE_LEN: usize = 28;
/// The longest symbolic link target: with a name of 255 bytes its fields fit in one block, whatever its components.
pub(super) const MAX_TARGET: usize = 1024;

const NAME_CONTINUES: u8 = 1;
const COMPONENT_CONTINUES: u8 = 1;
const COMPONENT_CURRENT: u8 = 2;
const COMPONENT_PARENT: u8 = 4;
const COMPONENT_ROOT: u8 = 8;
const TIMES_MODIFY_ACCESS_ATTRIBUTES: u8 = 0x0e;

/// A number in both byte orders (ECMA-119 section 7.3.3).
pub(super) fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// Marks the root's own record: the protocol is in use.
pub(super) fn sp() -> Vec<u8> {
    field(b"SP", &[0xbe, 0xef, 0])
}

/// Says which extension: Rock Ridge 1.10.
pub(super) fn er() -> Vec<u8> {
    let id = b"RRIP_1991A";
    let mut data = vec![id.len() as u8, 0, 0, 1];
    data.extend_from_slice(id);
    field(b"ER", &data)
}

/// Mode, links and owner.
pub(super) fn px(mode: u32, links: u32, uid: u32, gid: u32) -> Vec<u8> {
    field(b"PX", &[mode, links, uid, gid].map(both32).concat())
}

/// The times, all one.
pub(super) fn tf(date: Date) -> Vec<u8> {
    let mut data = vec![TIMES_MODIFY_ACCESS_ATTRIBUTES];
    (0..3).for_each(|_| data.extend_from_slice(&date));
    field(b"TF", &data)
}

/// The name, in as many fields as it takes.
pub(super) fn nm(name: &str) -> Vec<Vec<u8>> {
    let parts = name.as_bytes().chunks(250);
    let last = parts.len() - 1;
    let data = parts.enumerate().map(|(n, part)| {
        let flags = if n < last { NAME_CONTINUES } else { 0 };
        [&[flags], part].concat()
    });
    data.map(|data| field(b"NM", &data)).collect()
}

/// A symbolic link's target, by components; empty ones (`a//b`) are left out.
pub(super) fn sl(target: &str) -> Vec<Vec<u8>> {
    let mut components: Vec<Vec<u8>> = Vec::new();
    if target.starts_with('/') {
        components.push(vec![COMPONENT_ROOT, 0]);
    }
    for part in target.split('/').filter(|part| !part.is_empty()) {
        match part {
            "." => components.push(vec![COMPONENT_CURRENT, 0]),
            ".." => components.push(vec![COMPONENT_PARENT, 0]),
            part => {
                let chunks = part.as_bytes().chunks(120);
                let last = chunks.len() - 1;
                components.extend(chunks.enumerate().map(|(n, chunk)| {
                    let flags = if n < last { COMPONENT_CONTINUES } else { 0 };
                    [&[flags, chunk.len() as u8], chunk].concat()
                }));
            }
        }
    }
    let mut fields: Vec<Vec<u8>> = vec![vec![0]];
    for component in components {
        match fields.last_mut() {
            Some(last) if 4 + last.len() + component.len() <= 250 => last.extend(component),
            _ => fields.push([&[0], component.as_slice()].concat()),
        }
    }
    let last = fields.len() - 1;
    let flagged = fields.into_iter().enumerate().map(|(n, mut data)| {
        data[0] = if n < last { 1 } else { 0 };
        field(b"SL", &data)
    });
    flagged.collect()
}

/// Points to a continuation area.
pub(super) fn ce(block: u32, offset: u32, len: u32) -> Vec<u8> {
    field(b"CE", &[block, offset, len].map(both32).concat())
}

/// Divides fields between a record with `room` bytes and a continuation; where there is one, `room` is kept for its
/// [`ce`], too.
pub(super) fn split(fields: Vec<Vec<u8>>, room: usize) -> (Vec<u8>, Vec<u8>) {
    let all: usize = fields.iter().map(Vec::len).sum();
    if all <= room {
        return (fields.concat(), Vec::new());
    }
    let mut left = room - CE_LEN;
    let (mut inline, mut continued) = (Vec::new(), Vec::new());
    for field in fields {
        // Once one has gone over, the order is kept.
        if continued.is_empty() && field.len() <= left {
            left -= field.len();
            inline.extend(field);
        } else {
            continued.extend(field);
        }
    }
    debug_assert!(continued.len() <= BLOCK as usize);
    (inline, continued)
}

fn field(signature: &[u8; 2], data: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    // Data is at most 251 bytes.
    bytes.extend_from_slice(&[4 + data.len() as u8, 1]);
    bytes.extend_from_slice(data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_and_target_fit_in_one_block() {
        for target in ["a/".repeat(512), "b".repeat(MAX_TARGET), format!("{}/", "c".repeat(255)).repeat(4)] {
            let fields = [nm(&"n".repeat(255)), sl(&target)].concat();
            assert!(fields.iter().all(|f| f.len() <= 255 && usize::from(f[2]) == f.len()));
            assert!(fields.concat().len() <= BLOCK as usize, "{}", fields.concat().len());
        }
    }

    #[test]
    fn a_target_is_kept_by_components() {
        assert_eq!(sl("/usr/../x"), [b"SL\x11\x01\x00\x08\x00\x00\x03usr\x04\x00\x00\x01x".to_vec()]);
        assert_eq!(sl("."), [b"SL\x07\x01\x00\x02\x00".to_vec()]);
    }
}
