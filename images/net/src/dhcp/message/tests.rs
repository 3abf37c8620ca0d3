use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn message() -> impl Strategy<Value = Message> {
    let code = any::<u8>().prop_filter("not the encoding's own", |c| !matches!(*c, PAD | END | OVERLOAD));
    let options = btree_map(code, vec(any::<u8>(), 0..40), 0..12);
    (any::<bool>(), any::<u32>(), any::<[u16; 2]>(), any::<[u32; 4]>(), any::<[u8; 6]>(), options).prop_map(
        |(request, xid, [secs, flags], addresses, chaddr, options)| {
            let [ciaddr, yiaddr, siaddr, giaddr] = addresses.map(Ipv4Addr::from);
            let op = if request { Op::Request } else { Op::Reply };
            Message { op, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, options }
        },
    )
}

/// A reply with these bytes as its options field.
fn with_options(field: &[u8]) -> Vec<u8> {
    let mut bytes = Message::reply(&Message::request(7, [2, 0, 0, 0, 0, 1])).encode();
    bytes.truncate(FIXED + 4);
    bytes.extend(field);
    bytes
}

#[test]
fn the_type_is_the_first_option_and_short_messages_are_padded() {
    let mut message = Message::request(0x0102_0304, [2, 0, 0, 0, 0, 1]);
    message.options.insert(12, b"node".to_vec());
    message.options.insert(53, vec![1]);
    let bytes = message.encode();
    assert_eq!(bytes.len(), 300);
    assert_eq!(bytes[..8], [1, 1, 6, 0, 1, 2, 3, 4]);
    assert_eq!(bytes[236..250], *b"\x63\x82\x53\x63\x35\x01\x01\x0c\x04node\xff");
}

#[test]
fn parts_of_a_long_option_are_joined_in_order() {
    let message = decode(&with_options(&[119, 2, 1, 2, 6, 1, 9, 119, 1, 3, 255, 119, 1, 4])).unwrap();
    assert_eq!(message.options[&119], [1, 2, 3]);
    assert_eq!(message.options[&6], [9]);
}

#[test]
fn a_long_option_is_cut_and_joined_again() {
    let mut message = Message::request(1, [0; 6]);
    message.options.insert(121, (0..=255).chain(0..=255).collect());
    assert_eq!(decode(&message.encode()).unwrap(), message);
}

#[test]
fn overloaded_fields_are_read_after_the_options_file_first() {
    let mut bytes = with_options(&[OVERLOAD, 1, 3, 15, 1, b'a', END]);
    bytes[FILE.start..FILE.start + 5].copy_from_slice(&[15, 1, b'b', END, 15]);
    bytes[SNAME.start..SNAME.start + 6].copy_from_slice(&[15, 1, b'c', OVERLOAD, 1, 1]);
    assert_eq!(decode(&bytes).unwrap().options, Options::from([(15, b"abc".to_vec())]));
}

#[test]
fn fields_that_are_not_overloaded_are_text_and_not_read() {
    let mut bytes = with_options(&[END]);
    bytes[FILE].fill(15);
    assert!(decode(&bytes).unwrap().options.is_empty());
}

#[test]
fn each_way_of_being_no_message_has_its_error() {
    let good = with_options(&[END]);
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        decode(&bytes)
    };
    assert_eq!(decode(&good[..239]), Err(DecodeError::Length { len: 239 }));
    assert_eq!(decode(&[0; 1473]), Err(DecodeError::Length { len: 1473 }));
    assert_eq!(changed(0, 3), Err(DecodeError::Op { op: 3 }));
    assert_eq!(changed(1, 32), Err(DecodeError::Hardware { htype: 32, hlen: 6 }));
    assert_eq!(changed(2, 8), Err(DecodeError::Hardware { htype: 1, hlen: 8 }));
    assert_eq!(changed(239, 0), Err(DecodeError::Cookie));
    assert_eq!(decode(&with_options(&[6])), Err(DecodeError::Option { code: 6 }));
    assert_eq!(decode(&with_options(&[6, 4, 1, 2, 3])), Err(DecodeError::Option { code: 6 }));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(message in message()) {
        prop_assert_eq!(decode(&message.encode()), Ok(message));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..1500)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn random_options_never_panic_and_never_grow(field in vec(any::<u8>(), 0..600), overload in 0u8..4) {
        let mut bytes = with_options(&[OVERLOAD, 1, overload]);
        bytes.extend(&field);
        if let Ok(message) = decode(&bytes) {
            prop_assert!(message.options.values().map(Vec::len).sum::<usize>() <= bytes.len());
            prop_assert!(!message.options.contains_key(&OVERLOAD));
        }
    }

    #[test]
    fn a_damaged_message_never_panics(message in message(), at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
        let mut bytes = message.encode();
        let at = at.index(bytes.len());
        bytes[at] = value;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = decode(&bytes);
    }
}
