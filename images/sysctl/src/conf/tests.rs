use super::*;
use proptest::prelude::*;

fn key(text: &str) -> Vec<String> {
    Key::parse(text).unwrap().components().to_vec()
}

#[test]
fn the_first_separator_decides_what_the_other_one_means() {
    for (text, want) in [
        ("kernel.panic", &["kernel", "panic"][..]),
        ("kernel/panic", &["kernel", "panic"]),
        ("net.ipv4.conf.eth0/5.forwarding", &["net", "ipv4", "conf", "eth0.5", "forwarding"]),
        ("net/ipv4/conf/eth0.5/forwarding", &["net", "ipv4", "conf", "eth0.5", "forwarding"]),
        ("single", &["single"]),
    ] {
        assert_eq!(key(text), want, "{text}");
    }
}

#[test]
fn both_spellings_of_a_key_show_as_one() {
    let a = Key::parse("net/ipv4/conf/eth0.5/forwarding").unwrap();
    assert_eq!(a.to_string(), "net.ipv4.conf.eth0/5.forwarding");
    assert_eq!(Key::parse(&a.to_string()).unwrap(), a);
}

#[test]
fn a_key_cannot_leave_the_tree() {
    for text in ["", "../etc/passwd", "/etc/passwd", "kernel..panic", "kernel/../../x", "a.//.b", "kernel/"] {
        assert!(Key::parse(text).is_err(), "{text}");
    }
}

#[test]
fn lines_become_entries_with_their_numbers() {
    let text =
        "# c\n; c\n\n  kernel.panic = 10 \n-kernel/maybe=1\n-net.ipv4.conf.lo.rp_filter\nnet.x = a b\tc\n";
    let (entries, faults) = parse("f", text);
    assert_eq!(faults, []);
    let shown: Vec<_> = entries
        .iter()
        .map(|e| (e.origin.to_string(), e.key.to_string(), e.action.clone(), e.lenient))
        .collect();
    let assign = |value: &str| Action::Assign(value.into());
    assert_eq!(
        shown,
        [
            ("f:4".into(), "kernel.panic".into(), assign("10"), false),
            ("f:5".into(), "kernel.maybe".into(), assign("1"), true),
            ("f:6".into(), "net.ipv4.conf.lo.rp_filter".into(), Action::Exclude, true),
            ("f:7".into(), "net.x".into(), assign("a b\tc"), false),
        ]
    );
}

#[test]
fn a_value_may_hold_equals_signs_and_comment_signs() {
    let (entries, _) = parse("f", "kernel.core_pattern = |/bin/dump -o=x # %p ; y");
    assert_eq!(entries[0].action, Action::Assign("|/bin/dump -o=x # %p ; y".into()));
}

#[test]
fn a_value_may_be_empty() {
    let (entries, _) = parse("f", "kernel.core_pattern =");
    assert_eq!(entries[0].action, Action::Assign(String::new()));
}

#[test]
fn a_bad_line_is_named_and_the_rest_still_counts() {
    let text = "kernel.panic\n= 3\nkernel panic = 1\na..b = 1\nkernel.x = 1\x01\nkernel.panic = 1\n";
    let (entries, faults) = parse("50-x.conf", text);
    assert_eq!(entries.len(), 1);
    let shown: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "50-x.conf:1: kernel.panic: neither `key = value` nor `-key`",
            "50-x.conf:2: = 3: no key before `=`",
            "50-x.conf:3: kernel panic: a key holds no blanks",
            "50-x.conf:4: a..b: `` is no part of a key",
            "50-x.conf:5: kernel.x: the value holds a control character",
        ]
    );
}

proptest! {
    #[test]
    fn any_text_is_parsed_and_no_key_leaves_the_tree(text in "(?s).{0,200}") {
        let (entries, faults) = parse("f", &text);
        prop_assert!(entries.len() + faults.len() <= text.lines().count());
        for entry in entries {
            for part in entry.key.components() {
                prop_assert!(!part.is_empty() && part != "." && part != ".." && !part.contains('/'), "{part:?}");
            }
        }
    }

    #[test]
    fn a_key_is_what_it_shows(
        first in "[a-z0-9_-]{1,5}",
        rest in proptest::collection::vec("[a-z0-9_-]{1,5}(\\.[0-9]{1,2})?", 1..5),
    ) {
        let parts = [vec![first], rest].concat();
        let key = Key::parse(&parts.join("/")).unwrap();
        prop_assert_eq!(key.components(), &parts[..]);
        prop_assert_eq!(Key::parse(&key.to_string()).unwrap(), key);
    }
}
