//! Who an image's `User` is: names looked up in the image's own `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! The rules are those that Docker and containerd share: `USER`, `USER:GROUP`, each a name or a number; a number is
//! never taken for a name; a number need not be in the files; without a group the user's own one counts and, as further
//! groups, all that list the user. The first matching line counts, and lines that are none are passed over.

use kit_spec::node::container::User;

/// As much of either file as is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// Why an image's user is nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// A user's name that is not in the file.
    #[error("the image's /etc/passwd has no user `{name}`")]
    User {
        /// The name.
        name: String,
    },
    /// A group's name that is not in the file.
    #[error("the image's /etc/group has no group `{name}`")]
    Group {
        /// The name.
        name: String,
    },
    /// A number that no process can have.
    #[error("{what} {number} of the image is beyond 4294967294")]
    Range {
        /// `user` or `group`.
        what: &'static str,
        /// As written.
        number: String,
    },
    /// A file that is longer than any such file.
    #[error("the image's {path} has {len} bytes, more than the {MAX_FILE} that are read")]
    TooLong {
        /// Which.
        path: &'static str,
        /// Its length in bytes.
        len: usize,
    },
}

/// The user and groups that `user` stands for. `passwd` and `group` are the files' bytes, empty if there is no file.
///
/// The group is among the further groups too: a process without its own group in its list could pass a file whose mode
/// denies that group what it grants to all others.
///
/// # Errors
/// See [`AccountError`].
pub fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<User, AccountError> {
    for (path, file) in [("/etc/passwd", passwd), ("/etc/group", group)] {
        if file.len() > MAX_FILE {
            return Err(AccountError::TooLong { path, len: file.len() });
        }
    }
    let (user, group_name) = user.split_once(':').unwrap_or((user, ""));
    let number = number("user", if user.is_empty() { "0" } else { user })?;
    let account = lines(passwd).filter_map(Account::parse).find(|account| match number {
        Some(uid) => account.uid == uid,
        None => account.name == user.as_bytes(),
    });
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(AccountError::User { name: user.to_owned() }),
    };
    let mut additional_gids = Vec::new();
    let gid = if group_name.is_empty() {
        if let Some(account) = &account {
            additional_gids.extend(memberships(group, account.name));
        }
        account.map_or(0, |account| account.gid)
    } else {
        find_group(group_name, group)?
    };
    if !additional_gids.contains(&gid) {
        additional_gids.insert(0, gid);
    }
    Ok(User { uid, gid, additional_gids })
}

struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
}

impl<'a> Account<'a> {
    /// `name:password:uid:gid:..`
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = id(fields.nth(1)?)?;
        Some(Account { name, uid, gid: id(fields.next()?)? })
    }
}

/// The groups that list a user, in the file's order, each once.
fn memberships(group: &[u8], user: &[u8]) -> Vec<u32> {
    let mut gids = Vec::new();
    for (_, gid, members) in lines(group).filter_map(parse_group) {
        if members.split(|byte| *byte == b',').any(|member| member == user) && !gids.contains(&gid) {
            gids.push(gid);
        }
    }
    gids
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, AccountError> {
    if let Some(gid) = number("group", name)? {
        return Ok(gid);
    }
    let found = lines(group).filter_map(parse_group).find(|(found, ..)| *found == name.as_bytes());
    found.map(|(_, gid, _)| gid).ok_or_else(|| AccountError::Group { name: name.to_owned() })
}

/// `name:password:gid:member,member`
fn parse_group(line: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = id(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

/// A number, none if this is a name.
fn number(what: &'static str, text: &str) -> Result<Option<u32>, AccountError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    id(text.as_bytes()).map(Some).ok_or_else(|| AccountError::Range { what, number: text.to_owned() })
}

/// The highest number means "none" to the kernel.
fn id(field: &[u8]) -> Option<u32> {
    let digits =
        std::str::from_utf8(field).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|id| *id != u32::MAX)
}
