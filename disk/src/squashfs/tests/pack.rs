use super::*;

#[test]
fn a_pack_gives_back_what_was_added() {
    let dir = tempfile::tempdir().unwrap();
    let contents = vec![
        Vec::new(),
        text(1, 10),
        text(2, 4095),
        text(3, 4096),
        text(4, 4097),
        noise(5, 20_000),
        vec![0; 12_288],
        text(1, 10),
        text(4, 4097),
        vec![0; 100],
    ];
    let pack = packed(&dir.path().join("pack"), small_blocks(), 2, &contents);
    for (content, number) in contents.iter().zip(0..) {
        assert!(unpacked(&pack, number) == *content, "file {number}");
        assert_eq!(pack.index().len_of(FileRef::new(number)), Some(content.len() as u64));
    }
    assert_eq!(pack.index().file_count(), 10);
    assert_eq!(pack.index().unique_len(), 10 + 4095 + 4096 + 4097 + 20_000 + 12_288 + 100);
}
