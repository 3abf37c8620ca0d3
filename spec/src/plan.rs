//! The boot plan: `/etc/kit/plan.json` in an image. What PID 1 does, decided and checked when the image was built.
//!
//! Containers lie where the plan says, each a bundle directory with `config.json`; what is to be mounted or made before
//! one starts is in its [`Runtime`], the writable overlay of its root first. Nothing is left to be looked up on the node.

use crate::node::{Ready, Restart, Runtime, Stop, duration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// The version of the plan that this code reads and writes.
pub const VERSION: u32 = 1;

/// Where the plan lies in an image.
pub const PATH: &str = "/etc/kit/plan.json";

/// What PID 1 does, in this order: volumes, onboot, services; at the end onshutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// [`VERSION`]; the first key.
    pub version: u32,
    /// Volumes to mount before anything runs.
    pub volumes: Vec<Volume>,
    /// Containers that run to their end, one after the other.
    pub onboot: Vec<Task>,
    /// Containers that are kept running.
    pub services: Vec<Service>,
    /// Containers that run one after the other when the machine is shut down.
    pub onshutdown: Vec<Task>,
}

/// A volume: `/containers/volumes/NAME` holds `lower` and the mount points `tmp` and `merged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// True: `lower` is bound read-only on `merged`. False: an overlay over `lower`, its upper in a tmpfs on `tmp`.
    pub readonly: bool,
}

/// A container that runs to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// Its name; among tasks of one list not unique.
    pub name: String,
    /// Its bundle: `/containers/onboot/000-NAME`. The last component is unique and serves as the container's ID.
    pub bundle: String,
    /// What is made around its start.
    pub runtime: Runtime,
    /// How long it may run before it is killed and counts as failed.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Whether its failure stops the boot.
    #[serde(default)]
    pub required: bool,
}

/// A container that is kept running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Its name, unique among services.
    pub name: String,
    /// Its bundle: `/containers/services/NAME`.
    pub bundle: String,
    /// What is made around its start.
    pub runtime: Runtime,
    /// What happens when it ends.
    pub restart: Restart,
    /// Services that must be ready before it starts.
    pub after: Vec<String>,
    /// How to tell that it is ready; none: once started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// How it is stopped.
    pub stop: Stop,
}

/// Why a plan cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not JSON of this shape.
    #[error("not a boot plan")]
    Syntax(#[source] serde_json::Error),
    /// Another version's.
    #[error("a boot plan of version {found}, and this program executes version {VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
    /// Two services of one name.
    #[error("two services are called `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A service waits for one that there is not, or, through others, for itself.
    #[error("service `{name}` starts after `{after}`, which {problem}")]
    After {
        /// The service.
        name: String,
        /// What it waits for.
        after: String,
        /// Why that cannot be.
        problem: &'static str,
    },
}

impl Plan {
    /// Reads a plan and checks what executing it relies on.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn parse(json: &[u8]) -> Result<Plan, PlanError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(json).map_err(PlanError::Syntax)?;
        if head.version != VERSION {
            return Err(PlanError::Version { found: head.version });
        }
        let plan: Plan = serde_json::from_slice(json).map_err(PlanError::Syntax)?;
        plan.check()?;
        Ok(plan)
    }

    /// Checks that services are called differently and wait for each other without a circle.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn check(&self) -> Result<(), PlanError> {
        let mut names = BTreeSet::new();
        for service in &self.services {
            if !names.insert(service.name.as_str()) {
                return Err(PlanError::Twice { name: service.name.clone() });
            }
        }
        let wrong = |service: &Service, after: &String, problem| PlanError::After {
            name: service.name.clone(),
            after: after.clone(),
            problem,
        };
        for service in &self.services {
            if let Some(after) = service.after.iter().find(|after| !names.contains(after.as_str())) {
                return Err(wrong(service, after, "does not exist"));
            }
        }
        let mut waiting: Vec<&Service> = self.services.iter().collect();
        let mut started = BTreeSet::new();
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|service| {
                let may = service.after.iter().all(|after| started.contains(after.as_str()));
                if may {
                    started.insert(service.name.as_str());
                }
                !may
            });
            if waiting.len() == before {
                let service = waiting[0];
                let after = service.after.iter().find(|after| !started.contains(after.as_str()));
                return Err(wrong(
                    service,
                    after.unwrap_or(&service.name),
                    "waits, itself or through others, for it",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, after: &[&str]) -> Service {
        Service {
            name: name.into(),
            bundle: format!("/containers/services/{name}"),
            runtime: Runtime::default(),
            restart: Restart::default(),
            after: after.iter().map(|name| name.to_string()).collect(),
            ready: None,
            stop: Stop::default(),
        }
    }

    fn plan(services: Vec<Service>) -> Plan {
        let task = Task {
            name: "net".into(),
            bundle: "/containers/onboot/000-net".into(),
            runtime: Runtime::default(),
            timeout: Some(Duration::from_secs(30)),
            required: true,
        };
        let volumes = vec![Volume { name: "data".into(), readonly: false }];
        Plan { version: VERSION, volumes, onboot: vec![task], services, onshutdown: vec![] }
    }

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        let plan = plan(vec![service("b", &["a"]), service("a", &[])]);
        assert_eq!(Plan::parse(&serde_json::to_vec(&plan).unwrap()).unwrap(), plan);
    }

    #[test]
    fn the_version_is_the_first_key() {
        assert!(serde_json::to_string(&plan(vec![])).unwrap().starts_with(r#"{"version":1,"#));
    }

    #[test]
    fn services_that_wait_for_each_other_are_refused() {
        let plan = plan(vec![service("a", &["b"]), service("b", &["a"]), service("c", &[])]);
        let error = Plan::parse(&serde_json::to_vec(&plan).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "service `a` starts after `b`, which waits, itself or through others, for it"
        );
    }

    #[test]
    fn a_service_that_waits_for_nobody_known_is_refused() {
        let error = plan(vec![service("a", &["x"])]).check().unwrap_err();
        assert_eq!(error.to_string(), "service `a` starts after `x`, which does not exist");
    }
}
