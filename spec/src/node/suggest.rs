//! What was probably meant by a word that is not known.

/// Words of other tools, and of LinuxKit's own documentation, and what they are called here.
const OTHER_WORDS: [(&str, &str); 31] = [
    ("args", "command"),
    ("backOff", "backoff"),
    ("build", "image"),
    ("cap_add", "capabilities.add"),
    ("capAdd", "capabilities.add"),
    ("content", "contents"),
    ("containers", "services"),
    ("data", "contents"),
    ("depends_on", "after"),
    ("dependsOn", "after"),
    ("dest", "destination"),
    ("dir", "directory"),
    ("entrypoint", "command"),
    ("environment", "env"),
    ("group", "gid"),
    ("healthcheck", "ready"),
    ("network", "net"),
    ("network_mode", "net"),
    ("onBoot", "onboot"),
    ("options.add", "options"),
    ("perm", "mode"),
    ("permissions", "mode"),
    ("privileged", "capabilities"),
    ("read_only", "readonly"),
    ("readOnly", "readonly"),
    ("rmlimits", "rlimits"),
    ("target", "destination"),
    ("ulimits", "rlimits"),
    ("user", "uid"),
    ("volumes", "binds"),
    ("working_dir", "cwd"),
];

/// What to write instead of the unknown key `word`.
pub(super) fn key(word: &str, known: &[&str]) -> Option<String> {
    let other = OTHER_WORDS.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours);
    let meant = other.filter(|ours| known.contains(ours)).or_else(|| closest(word, known.iter().copied()));
    match meant {
        Some(meant) => Some(format!("did you mean `{meant}`?")),
        None if known.len() <= 12 => Some(format!("the keys here are {}", known.join(", "))),
        None => None,
    }
}

/// What to write instead of the unknown `word`, where few or many are known.
pub(super) fn word<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, known).map(|meant| format!("did you mean `{meant}`?"))
}

/// The known word that differs least from `word`, if it differs little: in case only, by a common beginning or end, or
/// by an edit for every three letters.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let distance = distance(&lower, &candidate.to_lowercase());
        let limit = word.chars().count().max(candidate.chars().count()).div_ceil(3);
        if distance <= limit && distance < candidate.len() && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{closest, distance, key};

    #[test]
    fn what_differs_little_is_meant() {
        let known = ["capabilities", "command", "cwd", "env", "after"];
        assert_eq!(closest("capabilites", known), Some("capabilities"));
        assert_eq!(closest("Command", known), Some("command"));
        assert_eq!(closest("evn", known), Some("env"));
        assert_eq!(closest("xyz", known), None);
        assert_eq!(closest("", known), None);
        assert_eq!(closest(&"a".repeat(1000), known), None);
    }

    #[test]
    fn words_of_other_tools_are_known_where_they_make_sense() {
        assert_eq!(key("environment", &["env", "image"]), Some("did you mean `env`?".to_owned()));
        assert_eq!(key("environment", &["path", "mode"]), Some("the keys here are path, mode".to_owned()));
    }

    #[test]
    fn neighbours_that_change_places_are_one_edit() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
