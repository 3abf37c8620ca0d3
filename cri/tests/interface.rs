//! The interface is that of others: compared with the published Go package, line by line and byte by byte.

mod go;

use kit_cri::v1::*;
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};
use std::collections::{BTreeMap, BTreeSet};

const DESCRIBED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runtime.v1.binpb"));

fn described() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIBED).expect("what the build script wrote")
}

type Redacted = BTreeSet<(String, String)>;

/// The message and name of each field with the option `debug_redact`, which prost's descriptors do not have.
fn redacted() -> Redacted {
    let files = redaction::Files::decode(DESCRIBED).expect("what the build script wrote").files.into_iter();
    let messages =
        files.flat_map(|file| file.messages.into_iter().map(move |one| (file.package.clone(), one)));
    let fields = messages.flat_map(|(package, message)| {
        let name = format!(".{package}.{}", message.name);
        message.fields.into_iter().map(move |field| (name.clone(), field))
    });
    let redacted = fields.filter(|(_, field)| field.options.as_ref().is_some_and(|one| one.debug_redact));
    redacted.map(|(message, field)| (message, field.name)).collect()
}

/// As much of descriptor.proto as leads to that option.
mod redaction {
    #[derive(prost::Message)]
    pub struct Files {
        #[prost(message, repeated, tag = "1")]
        pub files: Vec<File>,
    }

    #[derive(prost::Message)]
    pub struct File {
        #[prost(string, tag = "2")]
        pub package: String,
        #[prost(message, repeated, tag = "4")]
        pub messages: Vec<Message>,
    }

    #[derive(prost::Message)]
    pub struct Message {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub fields: Vec<Field>,
    }

    #[derive(prost::Message)]
    pub struct Field {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "8")]
        pub options: Option<Options>,
    }

    #[derive(prost::Message)]
    pub struct Options {
        #[prost(bool, tag = "16")]
        pub debug_redact: bool,
    }
}

/// The interface in the notation of `peer interface`.
fn lines() -> BTreeSet<String> {
    let (redacted, mut lines) = (redacted(), BTreeSet::new());
    for file in described().file {
        let scope = format!(".{}", file.package());
        file.enum_type.iter().for_each(|one| values(&scope, one, &mut lines));
        file.message_type.iter().for_each(|one| fields(&scope, one, &redacted, &mut lines));
        file.service.iter().for_each(|one| calls(&scope, one, &mut lines));
    }
    lines
}

fn values(scope: &str, described: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &described.value {
        lines.insert(format!("{scope}.{} {} = {}", described.name(), value.name(), value.number()));
    }
}

fn fields(scope: &str, message: &DescriptorProto, redacted: &Redacted, lines: &mut BTreeSet<String>) {
    let scope = format!("{scope}.{}", message.name());
    let map_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
    lines.insert(format!(
        "{scope}: map entry {map_entry}, oneofs {}, reserved {}, extensions {}",
        message.oneof_decl.len(),
        message.reserved_range.len(),
        message.extension_range.len()
    ));
    for field in &message.field {
        let deprecated = field.options.as_ref().is_some_and(|options| options.deprecated());
        lines.insert(format!(
            "{scope} {} = {}: {} {} {}, JSON {}, optional {}, deprecated {}, redacted {}",
            field.name(),
            field.number(),
            field.label() as i32,
            field.r#type() as i32,
            field.type_name(),
            field.json_name(),
            field.proto3_optional(),
            deprecated,
            redacted.contains(&(scope.clone(), field.name().to_owned()))
        ));
    }
    message.enum_type.iter().for_each(|one| values(&scope, one, lines));
    message.nested_type.iter().for_each(|one| fields(&scope, one, redacted, lines));
}

fn calls(scope: &str, service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    for call in &service.method {
        lines.insert(format!(
            "{scope}.{}/{}: {} {} -> {} {}",
            service.name(),
            call.name(),
            call.input_type(),
            call.client_streaming(),
            call.output_type(),
            call.server_streaming()
        ));
    }
}

#[test]
fn every_name_number_and_type_is_that_of_the_published_package() {
    let Some(peer) = go::peer() else { return };
    let said = peer.run("interface");
    let theirs: BTreeSet<String> = said.lines().map(str::to_owned).collect();
    let ours = lines();
    println!("compared {} lines with {}", theirs.len(), peer.run("version").trim());
    assert!(theirs.len() > 800, "the peer tells only {} lines", theirs.len());
    let missing: Vec<&String> = theirs.difference(&ours).collect();
    let more: Vec<&String> = ours.difference(&theirs).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing here: {missing:#?}\nonly here: {more:#?}");
}

/// Decodes bytes and encodes what they said.
type Again = fn(&[u8]) -> Result<Vec<u8>, prost::DecodeError>;

fn again<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    Ok(M::decode(bytes)?.encode_to_vec())
}

macro_rules! by_name {
    ($($message:ident)*) => { [$((stringify!($message), again::<$message> as Again)),*] };
}

/// Every message that a call takes or gives.
fn messages() -> BTreeMap<&'static str, Again> {
    BTreeMap::from(by_name!(
        AttachRequest AttachResponse
        CheckpointContainerRequest CheckpointContainerResponse
        CheckpointPodRequest CheckpointPodResponse
        ContainerStatsRequest ContainerStatsResponse
        ContainerStatusRequest ContainerStatusResponse
        CreateContainerRequest CreateContainerResponse
        ExecRequest ExecResponse
        ExecSyncRequest ExecSyncResponse
        GetEventsRequest ContainerEventResponse
        ImageFsInfoRequest ImageFsInfoResponse
        ImageStatusRequest ImageStatusResponse
        ListContainersRequest ListContainersResponse
        ListContainerStatsRequest ListContainerStatsResponse
        ListImagesRequest ListImagesResponse
        ListMetricDescriptorsRequest ListMetricDescriptorsResponse
        ListPodSandboxMetricsRequest ListPodSandboxMetricsResponse
        ListPodSandboxRequest ListPodSandboxResponse
        ListPodSandboxStatsRequest ListPodSandboxStatsResponse
        PodSandboxStatsRequest PodSandboxStatsResponse
        PodSandboxStatusRequest PodSandboxStatusResponse
        PortForwardRequest PortForwardResponse
        PullImageRequest PullImageResponse
        RemoveContainerRequest RemoveContainerResponse
        RemoveImageRequest RemoveImageResponse
        RemovePodSandboxRequest RemovePodSandboxResponse
        ReopenContainerLogRequest ReopenContainerLogResponse
        RestorePodRequest RestorePodResponse
        RunPodSandboxRequest RunPodSandboxResponse
        RuntimeConfigRequest RuntimeConfigResponse
        StartContainerRequest StartContainerResponse
        StatusRequest StatusResponse
        StopContainerRequest StopContainerResponse
        StopPodSandboxRequest StopPodSandboxResponse
        StreamContainersRequest StreamContainersResponse
        StreamContainerStatsRequest StreamContainerStatsResponse
        StreamImagesRequest StreamImagesResponse
        StreamPodSandboxesRequest StreamPodSandboxesResponse
        StreamPodSandboxMetricsRequest StreamPodSandboxMetricsResponse
        StreamPodSandboxStatsRequest StreamPodSandboxStatsResponse
        UpdateContainerResourcesRequest UpdateContainerResourcesResponse
        UpdatePodSandboxResourcesRequest UpdatePodSandboxResourcesResponse
        UpdateRuntimeConfigRequest UpdateRuntimeConfigResponse
        VersionRequest VersionResponse
    ))
}

#[test]
fn what_the_published_package_encodes_is_understood_whole() {
    let Some(peer) = go::peer() else { return };
    let said = peer.run("messages");
    let (messages, mut seen) = (messages(), BTreeSet::new());
    for line in said.lines() {
        let (name, digits) = line.split_once(' ').expect("a name and its bytes");
        let bytes: Vec<u8> = (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hexadecimal digits"))
            .collect();
        let again = messages.get(name).unwrap_or_else(|| panic!("{name} is in no call of ours"));
        // A field that we do not know would be lost, a map in another order would differ.
        assert!(again(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")) == bytes, "{name} differs");
        seen.insert(name);
    }
    assert_eq!(seen.len(), messages.len(), "messages of which the peer told nothing");
}

#[test]
fn the_services_have_all_calls_of_the_interface_and_every_list_a_stream() {
    let mut calls = BTreeMap::new();
    for service in described().file.into_iter().flat_map(|file| file.service) {
        let names: BTreeSet<String> = service.method.iter().map(|call| call.name().to_owned()).collect();
        calls.insert(service.name().to_owned(), names);
    }
    let counts: Vec<(&str, usize)> =
        calls.iter().map(|(service, calls)| (service.as_str(), calls.len())).collect();
    assert_eq!(counts, [("ImageService", 6), ("RuntimeService", 37)]);
    let all: BTreeSet<&String> = calls.values().flatten().collect();
    for list in
        all.iter().filter_map(|name| name.strip_prefix("List")).filter(|one| *one != "MetricDescriptors")
    {
        let plural = if list == "PodSandbox" { "PodSandboxes" } else { list };
        assert!(all.contains(&format!("Stream{plural}")), "List{list} has no stream");
    }
}

#[test]
fn no_other_field_is_a_secret_than_those_that_are_hidden() {
    let secrets = redacted();
    let expected = ["auth", "identity_token", "password", "registry_token"]
        .map(|field| (".runtime.v1.AuthConfig".to_owned(), field.to_owned()));
    assert_eq!(secrets, BTreeSet::from(expected));
}

#[test]
fn equal_messages_have_equal_bytes() {
    let of = |names: &[&str]| {
        let labels = names.iter().map(|name| ((*name).to_owned(), name.to_uppercase())).collect();
        PodSandboxConfig { labels, ..Default::default() }.encode_to_vec()
    };
    let names = ["tier", "app", "io.kubernetes.pod.name", "version", "zone"];
    let mut reversed = names;
    reversed.reverse();
    assert_eq!(of(&names), of(&reversed));
}
