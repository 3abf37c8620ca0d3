use super::super::account::{AccountError, MAX_FILE, resolve};
use super::*;
use kit_spec::node::container::User;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:many:1::/:
nginx:x:101:102:nginx user:/nonexistent:/bin/false
twice:x:5:5::/:
twice:x:6:6::/:
1000:x:7:7::/:
\r
last:x:8:9::/:";

const GROUP: &[u8] = b"root:x:0:
adm:x:4:root,nginx,other
broken:x:many:nginx
nginx:x:102:
web:x:33:other,nginx
web2:x:33:nginx
mine:x:102:nginx
staff:x:50:
99:x:51:
";

fn user(uid: u32, gid: u32, additional_gids: &[u32]) -> User {
    User { uid, gid, additional_gids: additional_gids.to_vec() }
}

#[test]
fn names_and_numbers_are_resolved() {
    for (text, want) in [
        ("", user(0, 0, &[0, 4])),
        ("root", user(0, 0, &[0, 4])),
        ("nginx", user(101, 102, &[4, 33, 102])),
        ("101", user(101, 102, &[4, 33, 102])),
        ("nginx:staff", user(101, 50, &[50])),
        ("nginx:77", user(101, 77, &[77])),
        ("12345", user(12345, 0, &[0])),
        ("12345:web", user(12345, 33, &[33])),
        ("12345:6789", user(12345, 6789, &[6789])),
        (":web", user(0, 33, &[33])),
        ("nginx:", user(101, 102, &[4, 33, 102])),
        ("twice", user(5, 5, &[5])),
        ("last", user(8, 9, &[9])),
        ("1000", user(1000, 0, &[0])),
        ("0:99", user(0, 99, &[99])),
    ] {
        assert_eq!(resolve(text, PASSWD, GROUP), Ok(want), "{text:?}");
    }
}

#[test]
fn numbers_need_no_files() {
    assert_eq!(resolve("", b"", b""), Ok(user(0, 0, &[0])));
    assert_eq!(resolve("5:6", b"", b""), Ok(user(5, 6, &[6])));
}

#[test]
fn who_is_nobody_is_named() {
    let told = |text: &str| resolve(text, PASSWD, GROUP).unwrap_err().to_string();
    assert_eq!(told("nobody"), "the image's /etc/passwd has no user `nobody`");
    assert_eq!(told("broken"), "the image's /etc/passwd has no user `broken`");
    assert_eq!(told("nginx:nogroup"), "the image's /etc/group has no group `nogroup`");
    assert_eq!(told("-1"), "the image's /etc/passwd has no user `-1`");
    assert_eq!(told("4294967295"), "user 4294967295 of the image is beyond 4294967294");
    assert_eq!(told("1:99999999999"), "group 99999999999 of the image is beyond 4294967294");
    let long = vec![b'\n'; MAX_FILE + 1];
    assert_eq!(
        resolve("a", b"", &long),
        Err(AccountError::TooLong { path: "/etc/group", len: MAX_FILE + 1 })
    );
}

proptest! {
    #[test]
    fn any_files_give_somebody_or_an_error(user in "[a-z0-9:]{0,8}", passwd in "[a-c0-9:,\n]{0,80}", group in "[a-c0-9:,\n]{0,80}") {
        if let Ok(found) = resolve(&user, passwd.as_bytes(), group.as_bytes()) {
            prop_assert!(found.additional_gids.contains(&found.gid));
        }
    }
}
