use super::*;
use proptest::prelude::*;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::process::Command;

fn partition(n: u128, first_lba: u64, last_lba: u64) -> Partition {
    let name = format!("part {n}");
    Partition { kind: kind::LINUX_DATA, id: Guid::from_u128(n), name, attributes: 0, first_lba, last_lba }
}

fn sample() -> Table {
    let wanted = |n: u8, kind, name: &str, size| Wanted {
        kind,
        id: Guid::from_hash([n; 16]),
        name: name.into(),
        attributes: if n == 2 { attribute::READ_ONLY } else { 0 },
        size,
    };
    let parts = vec![
        wanted(1, kind::ESP, "esp", 3 << 20),
        wanted(2, kind::LINUX_ROOT_X86_64, "Wurzel-ä", (5 << 20) + 1),
        wanted(3, kind::BIOS_BOOT, "", 512),
    ];
    Table::pack(Guid::from_hash([9; 16]), parts).unwrap()
}

fn disk(table: &Table) -> Vec<u8> {
    let mut bytes = table.primary(&Mbr::protective(table.disk_sectors()));
    assert_eq!(bytes.len() as u64, PRIMARY_SECTORS * SECTOR);
    bytes.resize(((table.disk_sectors() - BACKUP_SECTORS) * SECTOR) as usize, 0);
    bytes.extend(table.backup());
    assert_eq!(bytes.len() as u64, table.disk_size());
    bytes
}

#[test]
fn a_guid_is_mixed_endian_on_disk_and_big_endian_in_text() {
    let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
    assert_eq!(kind::ESP.to_string(), text);
    assert_eq!(text.to_uppercase().parse(), Ok(kind::ESP));
    let disk = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
    assert_eq!(kind::ESP.to_disk(), disk);
    assert_eq!(Guid::from_disk(disk), kind::ESP);
}

#[test]
fn text_that_is_no_guid_is_refused() {
    for text in [
        "",
        "c12a7328f81f11d2ba4b00a0c93ec93b",
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93",
        "c12a7328-f81f-11d2-ba4b_00a0c93ec93b",
        "g12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        "{12a7328-f81f-11d2-ba4b-00a0c93ec9}b",
    ] {
        assert!(text.parse::<Guid>().is_err(), "{text}");
    }
}

#[test]
fn a_hash_makes_a_version_8_guid() {
    assert_eq!(Guid::from_hash([0xff; 16]).to_string(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    assert_eq!(Guid::from_hash([0; 16]).to_string(), "00000000-0000-8000-8000-000000000000");
}

#[test]
fn packing_aligns_to_1_mib_and_ends_on_a_whole_mib() {
    let table = sample();
    let places: Vec<_> = table.partitions().iter().map(|p| (p.first_lba, p.last_lba)).collect();
    assert_eq!(places, [(2048, 8191), (8192, 18432), (20480, 20480)]);
    assert_eq!(table.disk_size(), 11 << 20);
    assert_eq!((table.partitions()[1].offset(), table.partitions()[1].size()), (4 << 20, (5 << 20) + 512));
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let refused = |sectors, parts| Table::new(Guid::NIL, sectors, parts).unwrap_err().to_string();
    assert_eq!(refused(67, vec![]), "a disk of 67 sectors has no room for a GPT");
    assert_eq!(
        refused(4096, vec![partition(1, 100, 4063)]),
        "partition \"part 1\": sectors 100..=4063 are not within 34..=4062"
    );
    assert_eq!(
        refused(4096, vec![partition(1, 33, 40)]),
        "partition \"part 1\": sectors 33..=40 are not within 34..=4062"
    );
    assert_eq!(
        refused(4096, vec![partition(1, 41, 40)]),
        "partition \"part 1\": sectors 41..=40 are not within 34..=4062"
    );
    assert_eq!(
        refused(4096, vec![partition(2, 50, 60), partition(1, 40, 50)]),
        "partitions \"part 1\" and \"part 2\" share sector 50"
    );
    assert_eq!(
        refused(4096, vec![partition(1, 40, 40), partition(1, 41, 41)]),
        "partition \"part 1\": the GUID 00000000-0000-0000-0000-000000000001 is another partition's"
    );
    let mut nameless = partition(1, 40, 40);
    nameless.name = "n".repeat(37);
    assert!(refused(4096, vec![nameless]).ends_with("the name takes 37 UTF-16 units, an entry has 36"));
    let many = (0..129u64).map(|n| partition(n.into(), 40 + n, 40 + n)).collect();
    assert_eq!(refused(4096, many), "129 partitions, but a table has 128 entries");
}

#[test]
fn what_was_written_is_read_back() {
    let table = sample();
    let found = read(&mut Cursor::new(disk(&table))).unwrap();
    assert_eq!((found.copy, found.disk_id), (Copy::Primary, table.disk_id()));
    assert_eq!(found.partitions, table.partitions());
    assert_eq!(found.find(Guid::from_hash([2; 16])), Some(&table.partitions()[1]));
    assert_eq!(found.find(Guid::from_hash([4; 16])), None);
}

#[test]
fn any_damage_to_the_primary_copy_falls_back_to_the_backup() {
    let table = sample();
    let whole = disk(&table);
    for damaged in [512, 512 + 17, 512 + 24, 512 + 88, 1024, 1024 + 130, 1024 + 16383] {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 1;
        let found = read(&mut Cursor::new(bytes)).unwrap();
        assert_eq!(found.copy, Copy::Backup, "byte {damaged}");
        assert!(found.primary_error.is_some());
        assert_eq!(found.partitions, table.partitions());
    }
}

#[test]
fn a_disk_without_a_whole_table_is_an_error_that_names_both_faults() {
    let table = sample();
    let mut bytes = disk(&table);
    bytes[1024] ^= 1;
    let last = bytes.len() - 512;
    bytes[last] = b'X';
    let err = read(&mut Cursor::new(bytes)).unwrap_err();
    assert_eq!(err.to_string(), "no whole GPT: backup: no GPT header at sector 22527");
    let source = std::error::Error::source(&err).unwrap().to_string();
    assert!(source.starts_with("GPT entries at sector 2: checksum "), "{source}");
    for short in [0, 511, 512, 1024, 2048] {
        assert!(read(&mut Cursor::new(vec![0; short])).is_err());
    }
}

/// A disk whose header can be made to say anything, with its checksum put right again.
fn lying_disk(at: usize, value: &[u8]) -> Cursor<Vec<u8>> {
    let table = Table::new(Guid::from_hash([9; 16]), 128, vec![partition(1, 40, 50)]).unwrap();
    let mut bytes = disk(&table);
    let len = bytes.len();
    bytes[len - 512..].fill(0);
    bytes[512 + at..][..value.len()].copy_from_slice(value);
    bytes[528..532].fill(0);
    let crc = crc32fast::hash(&bytes[512..604]);
    bytes[528..532].copy_from_slice(&crc.to_le_bytes());
    Cursor::new(bytes)
}

#[test]
fn a_header_that_lies_with_a_good_checksum_is_refused() {
    let lies: [(usize, &[u8], &str); 6] = [
        (80, &u32::MAX.to_le_bytes(), "GPT header at sector 1: NumberOfPartitionEntries is 4294967295"),
        (84, &0x8000_0000u32.to_le_bytes(), "GPT header at sector 1: SizeOfPartitionEntry is 2147483648"),
        (84, &192u32.to_le_bytes(), "GPT header at sector 1: SizeOfPartitionEntry is 192"),
        (72, &u64::MAX.to_le_bytes(), "GPT header at sector 18446744073709551615: PartitionEntryLBA is"),
        (72, &(1u64 << 40).to_le_bytes(), "read disk at byte 562949953421312"),
        (24, &2u64.to_le_bytes(), "GPT header at sector 1: MyLBA is 2"),
    ];
    for (at, value, why) in lies {
        let err = read(&mut lying_disk(at, value)).unwrap_err();
        let primary = std::error::Error::source(&err).unwrap().to_string();
        assert!(primary.starts_with(why), "{primary}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        if bytes.len() > 600 {
            bytes[512..520].copy_from_slice(SIGNATURE);
        }
        let _ = read(&mut Cursor::new(bytes));
    }

    #[test]
    fn any_header_with_a_good_checksum_is_read_without_a_panic(
        at in 8usize..88, value in prop::collection::vec(any::<u8>(), 1..9)
    ) {
        let value = &value[..value.len().min(92 - at)];
        if let Ok(found) = read(&mut lying_disk(at, value)) {
            for partition in &found.partitions {
                let _ = (partition.offset(), partition.size());
            }
        }
    }

    #[test]
    fn guids_survive_text_and_disk(value in any::<u128>()) {
        let guid = Guid::from_u128(value);
        prop_assert_eq!(guid.to_string().parse(), Ok(guid));
        prop_assert_eq!(Guid::from_disk(guid.to_disk()), guid);
    }
}

#[test]
fn the_protective_entry_is_the_specifications() {
    let sector = Mbr::protective(1 << 40).encode();
    assert_eq!(&sector[446..462], [0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(&sector[510..], [0x55, 0xaa]);
    assert!(sector[462..510].iter().all(|b| *b == 0));
    assert_eq!(&Mbr::protective(22528).encode()[458..462], 22527u32.to_le_bytes());
}

/// sgdisk's output on a disk of `bytes`, or `None` where there is no sgdisk.
fn sgdisk(args: &[&str], bytes: &[u8]) -> Option<String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let out = match Command::new("sgdisk").args(args).arg(file.path()).output() {
        Ok(out) => out,
        Err(e) => {
            println!("skipped: sgdisk: {e}");
            return None;
        }
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // sgdisk -v must not have repaired anything.
    let mut after = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut after).unwrap();
    assert!(after == bytes);
    Some(String::from_utf8(out.stdout).unwrap())
}

#[test]
fn sgdisk_finds_no_problem_and_the_same_values() {
    let bytes = disk(&sample());
    let Some(verified) = sgdisk(&["-v"], &bytes) else { return };
    assert!(verified.contains("No problems found"), "{verified}");
    let info = sgdisk(&["-i", "2"], &bytes).unwrap();
    for line in [
        "Partition GUID code: 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 (Linux x86-64 root (/))",
        "Partition unique GUID: 02020202-0202-8202-8202-020202020202",
        "First sector: 8192 (at 4.0 MiB)",
        "Last sector: 18432 (at 9.0 MiB)",
        "Attribute flags: 1000000000000000",
        "Partition name: 'Wurzel-ä'",
    ] {
        assert!(info.contains(line), "{line} in {info}");
    }
    let listed = sgdisk(&["-p"], &bytes).unwrap();
    assert!(listed.contains("Disk identifier (GUID): 09090909-0909-8909-8909-090909090909"), "{listed}");
}
