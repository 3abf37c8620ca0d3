//! SPDX licence expressions, as Cargo.toml has them.

/// True if an expression (`MIT OR Apache-2.0`, `(A OR B) AND C`, the old `A/B`) can be kept by keeping licences that
/// `allowed` says yes to. One that is not understood, or empty, cannot.
pub fn is_satisfied(expression: &str, allowed: impl Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed: &allowed };
    parser.alternatives().is_some_and(|kept| kept && parser.words.is_empty())
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn alternatives(&mut self) -> Option<bool> {
        let mut kept = self.all()?;
        while self.take("OR") {
            kept |= self.all()?;
        }
        Some(kept)
    }

    fn all(&mut self) -> Option<bool> {
        let mut kept = self.one()?;
        while self.take("AND") {
            kept &= self.one()?;
        }
        Some(kept)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let kept = self.alternatives()?;
            return self.take(")").then_some(kept);
        }
        let (name, rest) = self.words.split_first()?;
        if ["OR", "AND", "WITH", ")"].contains(name) {
            return None;
        }
        self.words = rest;
        if self.take("WITH") {
            let (exception, rest) = self.words.split_first()?;
            self.words = rest;
            // With an exception a licence asks for less, never for more.
            return Some((self.allowed)(&format!("{name} WITH {exception}")) || (self.allowed)(name));
        }
        Some((self.allowed)(name))
    }
}

#[test]
fn expressions_are_kept_by_one_alternative_or_all_parts() {
    let mit = |licence: &str| matches!(licence, "MIT" | "Zlib");
    for kept in
        ["MIT", "MIT OR GPL-3.0", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "(GPL-3.0 OR MIT) AND Zlib", "MIT WITH x"]
    {
        assert!(is_satisfied(kept, mit), "{kept}");
    }
    for refused in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT OR", "(MIT", "MIT)", "MIT Zlib", "GPL-2.0 WITH x", "WITH"]
    {
        assert!(!is_satisfied(refused, mit), "{refused}");
    }
}
