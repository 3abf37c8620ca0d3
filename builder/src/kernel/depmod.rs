//! What `depmod` makes, made while building: which module needs which, and which device wants which.
//!
//! Packages ship modules without these indexes (a maintainer script makes them on the machine), and a node has nobody
//! to make them. Pure: from modules' names and `.modinfo` to the text of the files.

use super::modinfo::{ModInfo, softdep_pre};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The modules of one kernel: path below `lib/modules/RELEASE`, and what the file says.
#[derive(Debug, Default)]
pub struct Modules {
    by_name: BTreeMap<String, (String, ModInfo)>,
}

/// A module that is needed but not there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("kernel module `{name}`{} is neither among the modules nor built into the kernel", .wanted_by.as_ref().map(|by| format!(", needed by `{by}`,")).unwrap_or_default())]
pub struct MissingModule {
    /// The missing one.
    pub name: String,
    /// Which module needs it; none if it was asked for.
    pub wanted_by: Option<String>,
}

impl Modules {
    /// Adds a module.
    pub fn insert(&mut self, name: String, path: String, info: ModInfo) {
        self.by_name.insert(name, (path, info));
    }

    /// True if a module of that name was added.
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The path of a module below `lib/modules/RELEASE`.
    pub fn path(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|(path, _)| path.as_str())
    }

    /// The modules to load for `wanted`, each after all that it needs, none twice. Names in `builtin` need nothing.
    ///
    /// # Errors
    /// When one is neither here nor built in.
    pub fn load_order(
        &self,
        wanted: &[&str],
        builtin: &BTreeSet<String>,
    ) -> Result<Vec<&str>, MissingModule> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(name, None, builtin, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit<'a>(
        &'a self,
        name: &str,
        wanted_by: Option<&str>,
        builtin: &BTreeSet<String>,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<&'a str>,
    ) -> Result<(), MissingModule> {
        let Some((name, (_, info))) = self.by_name.get_key_value(name) else {
            if builtin.contains(name) {
                return Ok(());
            }
            return Err(MissingModule { name: name.into(), wanted_by: wanted_by.map(Into::into) });
        };
        if !seen.insert(name) {
            return Ok(());
        }
        for before in info.softdeps.iter().flat_map(|line| softdep_pre(line)) {
            if self.contains(&before) {
                self.visit(&before, Some(name), builtin, seen, order)?;
            }
        }
        for needed in &info.depends {
            self.visit(needed, Some(name), builtin, seen, order)?;
        }
        order.push(name);
        Ok(())
    }

    /// `modules.dep`: a line a module, then all it needs, the last of them to be loaded first.
    ///
    /// # Errors
    /// When a module needs one that is not there.
    pub fn dep(&self, builtin: &BTreeSet<String>) -> Result<String, MissingModule> {
        let mut text = String::new();
        for (name, (path, _)) in &self.by_name {
            let _ = write!(text, "{path}:");
            let order = self.load_order(&[name], builtin)?;
            for needed in order.iter().rev().filter(|needed| *needed != name) {
                let _ = write!(text, " {}", self.by_name[*needed].0);
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// `modules.alias`: `alias PATTERN MODULE`, a line each.
    pub fn alias(&self) -> String {
        let mut text = String::from("# Aliases extracted from modules themselves.\n");
        for (name, (_, info)) in &self.by_name {
            for pattern in &info.aliases {
                let _ = writeln!(text, "alias {pattern} {name}");
            }
        }
        text
    }

    /// `modules.softdep`: `softdep MODULE pre: .. post: ..`, a line each.
    pub fn softdep(&self) -> String {
        let mut text = String::from("# Soft dependencies extracted from modules themselves.\n");
        for (name, (_, info)) in &self.by_name {
            for line in &info.softdeps {
                let _ = writeln!(text, "softdep {name} {line}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(list: &[(&str, &[&str])]) -> Modules {
        let mut modules = Modules::default();
        for (name, depends) in list {
            let depends = depends.iter().map(|d| d.to_string()).collect();
            let info = ModInfo { depends, aliases: vec![format!("pci:{name}*")], softdeps: vec![] };
            modules.insert(name.to_string(), format!("kernel/{name}.ko"), info);
        }
        modules
    }

    #[test]
    fn needed_modules_are_loaded_first_and_once() {
        let modules = modules(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &["core"])]);
        let builtin = BTreeSet::from(["core".to_owned()]);
        assert_eq!(modules.load_order(&["a", "b"], &builtin).unwrap(), ["c", "b", "a"]);
        assert_eq!(
            modules.dep(&builtin).unwrap(),
            "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\n"
        );
    }

    #[test]
    fn a_missing_module_is_named_with_the_one_that_needs_it() {
        let modules = modules(&[("a", &["b"])]);
        let error = modules.load_order(&["a"], &BTreeSet::new()).unwrap_err();
        assert_eq!(error, MissingModule { name: "b".into(), wanted_by: Some("a".into()) });
    }

    #[test]
    fn a_circle_ends() {
        let modules = modules(&[("a", &["b"]), ("b", &["a"])]);
        assert_eq!(modules.load_order(&["a"], &BTreeSet::new()).unwrap(), ["b", "a"]);
    }

    #[test]
    fn aliases_are_listed_with_their_modules() {
        assert_eq!(
            modules(&[("a", &[])]).alias(),
            "# Aliases extracted from modules themselves.\nalias pci:a* a\n"
        );
    }
}
