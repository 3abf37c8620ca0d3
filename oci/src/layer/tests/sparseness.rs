//! Sparse files of all four forms.

use super::*;

const DATA: &[u8] = b"onetwo";
/// `one` at 3 and `two` at 10, in 20 bytes.
const WHOLE: &[u8] = b"\0\0\0one\0\0\0\0two\0\0\0\0\0\0\0";

fn check(bytes: &[u8]) {
    let changes = read(bytes).unwrap();
    assert_eq!(changes, [put("sparse", file(WHOLE)), put("next", file(b"x"))]);
}

fn then_next(sparse: Vec<u8>) -> Vec<u8> {
    [sparse, archive(Format::Ustar, &[Member::file("next", "x")])].concat()
}

#[test]
fn pax_0_0_maps_are_expanded() {
    let member = Member::file("sparse", DATA)
        .record("GNU.sparse.size", "20")
        .record("GNU.sparse.numblocks", "2")
        .record("GNU.sparse.offset", "3")
        .record("GNU.sparse.numbytes", "3")
        .record("GNU.sparse.offset", "10")
        .record("GNU.sparse.numbytes", "3");
    check(&then_next(member.write(Format::Pax)));
}

#[test]
fn pax_0_1_maps_are_expanded() {
    let member = Member::file("GNUSparseFile.0/x", DATA)
        .record("GNU.sparse.size", "20")
        .record("GNU.sparse.numblocks", "2")
        .record("GNU.sparse.map", "3,3,10,3")
        .record("GNU.sparse.name", "sparse");
    check(&then_next(member.write(Format::Pax)));
}

fn form_1_0(map: &str, len: &str) -> Vec<u8> {
    let mut data = map.as_bytes().to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data.extend(DATA);
    Member::file("GNUSparseFile.0/x", data)
        .record("GNU.sparse.major", "1")
        .record("GNU.sparse.minor", "0")
        .record("GNU.sparse.name", "sparse")
        .record("GNU.sparse.realsize", len)
        .write(Format::Pax)
}

#[test]
fn pax_1_0_maps_are_expanded() {
    check(&then_next(form_1_0("2\n3\n3\n10\n3\n", "20")));
    let padded = format!("200\n3\n3\n10\n3\n{}", "20\n0\n".repeat(198));
    check(&then_next(form_1_0(&padded, "20")));
}

fn old_gnu(real: &[u8; 12], pairs: &[(u64, u64)]) -> Vec<u8> {
    let field = |block: &mut [u8], n: u64| block.copy_from_slice(format!("{n:011o}\0").as_bytes());
    let write = |to: &mut [u8], pairs: &[(u64, u64)]| {
        for (to, (offset, len)) in to.chunks_exact_mut(24).zip(pairs) {
            field(&mut to[..12], *offset);
            field(&mut to[12..], *len);
        }
    };
    let mut header = Member { data: DATA.to_vec(), ..Member::new(b'S', "sparse") }.header(Format::Gnu);
    let (first, rest) = pairs.split_at(pairs.len().min(4));
    write(&mut header[386..482], first);
    header[482] = u8::from(!rest.is_empty());
    header[483..495].copy_from_slice(real);
    writer::seal(&mut header);
    let mut out = header.to_vec();
    let mut chunks = rest.chunks(21).peekable();
    while let Some(chunk) = chunks.next() {
        let mut block = [0; 512];
        write(&mut block[..504], chunk);
        block[504] = u8::from(chunks.peek().is_some());
        out.extend(block);
    }
    out.extend(DATA);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

#[test]
fn old_gnu_maps_are_expanded_with_and_without_extension_blocks() {
    let real = b"00000000024\0";
    check(&then_next(old_gnu(real, &[(3, 3), (10, 3), (20, 0)])));
    let many: Vec<_> = [(3, 1), (4, 1), (5, 1)].into_iter().chain([(9, 0); 40]).chain([(10, 3)]).collect();
    check(&then_next(old_gnu(real, &many)));
}

#[test]
fn maps_that_make_no_sense_are_refused() {
    for (map, len, why) in [
        ("2\n10\n3\n3\n3\n", "20", "is not in order"),
        ("2\n3\n5\n7\n1\n", "20", "is not in order"),
        ("2\n3\n3\n10\n3\n", "12", "leads beyond the end of the file"),
        ("2\n3\n3\n10\n2\n", "20", "is not as long as the data that is there"),
        ("2\n3\n3\n10\n9223372036854775807\n", "20", "leads beyond the end of the file"),
        ("2\n3\n3\n10\n9223372036854775808\n", "20", "holds a number beyond all files"),
        ("2\n3\n3\n-10\n3\n", "20", "holds something that is not a number"),
        ("2\n3\n3\n\n", "20", "holds something that is not a number"),
        ("2\n3\n3\n", "20", "holds something that is not a number"),
        ("1048577\n", "20", "in stretches of 1048577 is more than the 1048576 allowed"),
    ] {
        let told = told(read(&then_next(form_1_0(map, len))));
        assert!(told.starts_with("entry `sparse` (header at byte 1024) cannot be used: "), "{told}");
        assert!(told.ends_with(why), "{map:?}: {told}");
    }
    let endless = "200\n".to_owned() + &"1\n0\n".repeat(127);
    assert!(told(read(&then_next(form_1_0(&endless, "20")))).contains("its map of sparse data"));
}

#[test]
fn records_that_are_no_map_are_refused() {
    for (records, why) in [
        (vec![("GNU.sparse.size", "20")], "is missing"),
        (vec![("GNU.sparse.map", "3,3")], "does not come with the length of the file"),
        (vec![("GNU.sparse.map", "3,3,4"), ("GNU.sparse.size", "20")], "ends within a pair"),
        (vec![("GNU.sparse.offset", "3"), ("GNU.sparse.size", "20")], "ends within a pair"),
        (vec![("GNU.sparse.offset", "3"), ("GNU.sparse.offset", "4")], "has two offsets in a row"),
        (vec![("GNU.sparse.numbytes", "3")], "has a length without an offset"),
        (vec![("GNU.sparse.major", "2"), ("GNU.sparse.size", "20")], "is of an unknown version"),
    ] {
        let member =
            records.iter().fold(Member::file("a", DATA), |member, (key, value)| member.record(key, value));
        let told = told(read(&archive(Format::Pax, &[member])));
        assert!(told.ends_with(&format!("its map of sparse data {why}")), "{records:?}: {told}");
    }
}

#[test]
fn a_hole_larger_than_files_may_be_is_refused() {
    let bytes = then_next(old_gnu(b"77777777777\0", &[(3, 3), (10, 3)]));
    let told = told(read_with(&bytes, Options { max_file: 1 << 20, ..Options::default() }));
    assert!(told.ends_with("a file in bytes of 8589934591 is more than the 1048576 allowed"), "{told}");
}

#[test]
fn a_sparse_file_is_cut_off_nowhere_without_an_error() {
    for whole in [form_1_0("2\n3\n3\n10\n3\n", "20"), old_gnu(b"00000000024\0", &[(3, 1); 6])] {
        for len in 1..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut off at byte {len}");
        }
    }
}
