//! Who an image's `User` is, by the image's own `/etc/passwd` and `/etc/group` (image-spec config.md, `User`).

use kit_spec::node::container::User;
use thiserror::Error;

/// Why a user is nobody.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AccountError {
    /// There is no user of that name.
    #[error("the image's /etc/passwd has no user `{name}`")]
    NoUser {
        /// The name.
        name: String,
    },
    /// There is no group of that name.
    #[error("the image's /etc/group has no group `{name}`")]
    NoGroup {
        /// The name.
        name: String,
    },
}

/// `USER`, `UID`, `USER:GROUP` and so on, by name or number. A number need not be in the files; its group is then the
/// one that `/etc/passwd` gives it, or 0. Further groups are those that list the user. An empty text is nobody: `None`.
///
/// # Errors
/// When a name is not in its file.
pub fn resolve(text: &str, passwd: &str, group: &str) -> Result<Option<User>, AccountError> {
    if text.is_empty() {
        return Ok(None);
    }
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 4 && (fields[0] == user || (is_number(user) && fields[2] == user)));
    let number = |field: &str| field.parse::<u32>().ok();
    let (name, uid, own) = match &entry {
        Some(fields) => (fields[0], number(fields[2]), number(fields[3])),
        None => (user, number(user), None),
    };
    let uid = uid.ok_or_else(|| AccountError::NoUser { name: user.into() })?;
    let gid = match wanted_group {
        Some(wanted) => group_number(wanted, group)?,
        None => own.unwrap_or(0),
    };
    let mut additional_gids: Vec<u32> = Vec::new();
    if wanted_group.is_none() && entry.is_some() {
        for fields in group.lines().map(|line| line.split(':').collect::<Vec<_>>()) {
            if fields.len() >= 4 && fields[3].split(',').any(|member| member == name) {
                additional_gids.extend(number(fields[2]).filter(|other| *other != gid));
            }
        }
    }
    additional_gids.sort_unstable();
    additional_gids.dedup();
    Ok(Some(User { uid, gid, additional_gids }))
}

fn group_number(wanted: &str, group: &str) -> Result<u32, AccountError> {
    let named = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|f| f.len() >= 3 && f[0] == wanted);
    let number = named.and_then(|fields| fields[2].parse().ok()).or_else(|| wanted.parse().ok());
    number.ok_or_else(|| AccountError::NoGroup { name: wanted.into() })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:102::/:/x\nbroken\n";
    const GROUP: &str = "root:x:0:\nnginx:x:102:\nweb:x:500:nginx,other\nbroken\n";

    fn who(text: &str) -> Result<(u32, u32, Vec<u32>), AccountError> {
        resolve(text, PASSWD, GROUP).map(|user| user.map(|u| (u.uid, u.gid, u.additional_gids)).unwrap())
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        assert_eq!(who("nginx"), Ok((101, 102, vec![500])));
        assert_eq!(who("101"), Ok((101, 102, vec![500])));
        assert_eq!(who("nginx:web"), Ok((101, 500, vec![])));
        assert_eq!(who("7:8"), Ok((7, 8, vec![])));
        assert_eq!(who("7"), Ok((7, 0, vec![])));
        assert_eq!(resolve("", PASSWD, GROUP), Ok(None));
    }

    #[test]
    fn a_name_that_is_nowhere_is_an_error() {
        assert_eq!(who("nobody"), Err(AccountError::NoUser { name: "nobody".into() }));
        assert_eq!(who("nginx:wheel"), Err(AccountError::NoGroup { name: "wheel".into() }));
    }
}
