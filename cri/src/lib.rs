//! The Container Runtime Interface, `runtime.v1`: what a node's agent asks of the runtime, as protobuf messages and the
//! traits of the two gRPC services.
//!
//! Invariant: no I/O, no executor, no `unsafe`. A connection, and what drives it, belong to the caller.
//!
//! `proto/` is the interface as we write it down: one protobuf package in files by meaning. The Rust in [`v1`] is made of
//! it when this crate is built. Names, numbers and types are those of Kubernetes' interface, for agents and runtimes of
//! others must understand ours; a test compares them with the published Go package, where Go is installed.
//!
//! | feature | adds |
//! |---|---|
//! | - | messages: to build, encode, decode, keep |
//! | `client` | `v1::runtime_service_client`, `v1::image_service_client` |
//! | `server` | `v1::runtime_service_server`, `v1::image_service_server`: a trait for each service, and what makes an HTTP service of it |
//!
//! # Over a unix socket
//!
//! Both services are served on one unix socket, HTTP/2 without TLS; who may open the socket may do everything. With
//! tonic's own transport a runtime adds `RuntimeServiceServer` and `ImageServiceServer` to a `tonic::transport::Server`
//! and serves a stream of accepted connections. An agent makes a `tonic::transport::Channel` whose connector opens the
//! socket, and `RuntimeServiceClient` of that. All four need their limits raised to [`MAX_MESSAGE`]:
//! `max_decoding_message_size` is 4 MiB otherwise. A method that a server does not implement answers `UNIMPLEMENTED`,
//! which the interface allows for the optional ones.
//!
//! # A request
//!
//! ```
//! use kit_cri::v1::{
//!     ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxContainerConfig,
//!     LinuxContainerResources, Mount, MountPropagation,
//! };
//! use prost::Message;
//!
//! let data = Mount {
//!     container_path: "/data".to_owned(),
//!     host_path: "/var/lib/data".to_owned(),
//!     propagation: MountPropagation::PropagationHostToContainer.into(),
//!     ..Mount::default()
//! };
//! let resources = LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
//! let config = ContainerConfig {
//!     metadata: Some(ContainerMetadata { name: "web".to_owned(), attempt: 0 }),
//!     image: Some(ImageSpec { image: "docker.io/library/nginx:1.27".to_owned(), ..Default::default() }),
//!     args: vec!["-g".to_owned(), "daemon off;".to_owned()],
//!     mounts: vec![data],
//!     linux: Some(LinuxContainerConfig { resources: Some(resources), ..Default::default() }),
//!     ..ContainerConfig::default()
//! };
//! let request = CreateContainerRequest {
//!     pod_sandbox_id: "pod".to_owned(),
//!     config: Some(config),
//!     sandbox_config: None,
//! };
//!
//! let received = CreateContainerRequest::decode(request.encode_to_vec().as_slice())?;
//! let config = received.config.unwrap();
//! assert_eq!(config.mounts[0].propagation(), MountPropagation::PropagationHostToContainer);
//! # Ok::<(), prost::DecodeError>(())
//! ```
#![forbid(unsafe_code)]

mod auth;

/// Messages and services of the protobuf package `runtime.v1`.
///
/// A field that is a message is an `Option`, one that is an enum is its number: use the method of the same name to read
/// it, `.into()` to write it. Maps are sorted, so that equal messages have equal bytes.
// Made of `proto/`: what a name does not tell is told there, and a generator spells paths out.
#[allow(missing_docs, unused_qualifications)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
}

/// The longest message in bytes that either side sends or takes: what Kubernetes' agent uses. Longer lists are for the
/// `Stream` calls; `ExecSync` keeps only the beginning of a longer output.
pub const MAX_MESSAGE: usize = 16 << 20;

/// What a runtime answers in `VersionResponse.runtime_api_version`.
pub const API_VERSION: &str = "v1";

/// The `RuntimeCondition` that says whether containers can be run.
pub const RUNTIME_READY: &str = "RuntimeReady";

/// The `RuntimeCondition` that says whether pods can have a network of their own.
pub const NETWORK_READY: &str = "NetworkReady";
