//! A client of ours asks a server of ours, with nothing between them: calls, streams, limits, what is not implemented.

use kit_cri::v1::image_service_client::ImageServiceClient;
use kit_cri::v1::image_service_server::{ImageService, ImageServiceServer};
use kit_cri::v1::runtime_service_client::RuntimeServiceClient;
use kit_cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use kit_cri::v1::*;
use kit_cri::{API_VERSION, MAX_MESSAGE};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::server::NamedService;
use tonic::{Code, Request, Response, Status};

/// Runs to the end; nothing here waits for anything outside.
fn run<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// What is there already, one after the other.
struct Parts<T>(VecDeque<Result<T, Status>>);

impl<T: Unpin> Stream for Parts<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

/// A runtime with containers `0`, `1`, .. and of each a long output.
struct Engine {
    containers: usize,
    output: usize,
}

#[tonic::async_trait]
impl RuntimeService for Engine {
    async fn version(&self, request: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: request.into_inner().version,
            runtime_api_version: API_VERSION.to_owned(),
            ..Default::default()
        }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Result<Response<ContainerStatusResponse>, Status> {
        Err(Status::not_found(format!("no container {}", request.into_inner().container_id)))
    }

    async fn exec_sync(&self, _: Request<ExecSyncRequest>) -> Result<Response<ExecSyncResponse>, Status> {
        Ok(Response::new(ExecSyncResponse { stdout: vec![b'x'; self.output], ..Default::default() }))
    }

    async fn stream_containers(
        &self,
        _: Request<StreamContainersRequest>,
    ) -> Result<Response<BoxStream<StreamContainersResponse>>, Status> {
        let part = |id: usize| {
            let containers = vec![Container { id: id.to_string(), ..Default::default() }];
            Ok(StreamContainersResponse { containers })
        };
        Ok(Response::new(Box::pin(Parts((0..self.containers).map(part).collect()))))
    }
}

#[tonic::async_trait]
impl ImageService for Engine {}

fn client(engine: Engine) -> RuntimeServiceClient<RuntimeServiceServer<Engine>> {
    let server = RuntimeServiceServer::new(engine).max_encoding_message_size(MAX_MESSAGE);
    RuntimeServiceClient::new(server).max_decoding_message_size(MAX_MESSAGE)
}

#[test]
fn the_services_are_called_by_the_names_of_the_interface() {
    assert_eq!(RuntimeServiceServer::<Engine>::NAME, "runtime.v1.RuntimeService");
    assert_eq!(ImageServiceServer::<Engine>::NAME, "runtime.v1.ImageService");
}

#[test]
fn a_call_is_answered_and_an_error_keeps_its_code() {
    let mut client = client(Engine { containers: 0, output: 0 });
    let asked = VersionRequest { version: "0.1.0".to_owned() };
    let answer = run(client.version(asked)).unwrap().into_inner();
    assert_eq!((answer.version.as_str(), answer.runtime_api_version.as_str()), ("0.1.0", "v1"));

    let asked = ContainerStatusRequest { container_id: "abc".to_owned(), verbose: false };
    let error = run(client.container_status(asked)).unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "no container abc"));
}

#[test]
fn a_list_comes_in_parts() {
    let mut client = client(Engine { containers: 3, output: 0 });
    run(async {
        let mut parts =
            client.stream_containers(StreamContainersRequest::default()).await.unwrap().into_inner();
        let mut ids = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            ids.extend(part.containers.into_iter().map(|container| container.id));
        }
        assert_eq!(ids, ["0", "1", "2"]);
    });
}

#[test]
fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
    // The output's tag and length, and an exit code that is zero, so not there.
    let beside = 5;
    let mut at_most = client(Engine { containers: 0, output: MAX_MESSAGE - beside });
    let answer = run(at_most.exec_sync(ExecSyncRequest::default())).unwrap().into_inner();
    assert_eq!(answer.stdout.len(), MAX_MESSAGE - beside);
    let mut longer = client(Engine { containers: 0, output: MAX_MESSAGE - beside + 1 });
    let error = run(longer.exec_sync(ExecSyncRequest::default())).unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
}

#[test]
fn what_a_runtime_does_not_implement_answers_so() {
    let mut client = client(Engine { containers: 0, output: 0 });
    let error = run(client.checkpoint_pod(CheckpointPodRequest::default())).unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let error = match run(client.get_container_events(GetEventsRequest {})) {
        Ok(_) => panic!("events of a runtime that has none"),
        Err(error) => error,
    };
    assert_eq!(error.code(), Code::Unimplemented);

    let server = ImageServiceServer::new(Engine { containers: 0, output: 0 });
    let mut client = ImageServiceClient::new(server);
    let error = run(client.list_images(ListImagesRequest::default())).unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[test]
fn a_login_is_shown_without_its_secrets() {
    let secret = || "swordfish".to_owned();
    let auth = AuthConfig {
        username: "someone".to_owned(),
        password: secret(),
        auth: secret(),
        server_address: "registry.test".to_owned(),
        identity_token: secret(),
        registry_token: secret(),
    };
    let shown = format!("{:?}", PullImageRequest { auth: Some(auth), ..Default::default() });
    assert!(shown.contains("someone") && shown.contains("registry.test"), "{shown}");
    assert!(!shown.contains("swordfish"), "{shown}");
}
