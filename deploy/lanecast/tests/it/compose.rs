//! What compose says is what was run: the commands and settings of `deploy/docker/compose.yaml`,
//! read from the file, started as processes against the local ClickHouse server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{self, Process, eventually, get_json};

const IMAGE: &str = "lanecast:latest";

fn docker_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker")
}

fn compose() -> serde_yaml_ng::Value {
    let text = std::fs::read_to_string(docker_dir().join("compose.yaml")).unwrap();
    let mut document: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
    document.apply_merge().unwrap();
    document
}

/// One service of ours as compose would start it.
struct Service {
    name: String,
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    replicas: u64,
}

fn services() -> Vec<Service> {
    let document = compose();
    let ours = document["services"].as_mapping().unwrap().iter();
    let ours = ours.filter(|(_, service)| service["image"].as_str() == Some(IMAGE));
    ours.map(|(name, service)| {
        let command = service["command"].as_sequence().unwrap().iter();
        let environment = service["environment"].as_mapping().unwrap().iter();
        Service {
            name: name.as_str().unwrap().to_owned(),
            command: command.map(|word| word.as_str().unwrap().to_owned()).collect(),
            environment: environment
                .map(|(name, value)| (name.as_str().unwrap().to_owned(), interpolated(value)))
                .collect(),
            replicas: service["deploy"]["replicas"].as_u64().unwrap_or(1),
        }
    })
    .collect()
}

/// `${NAME:-default}` as compose reads it with nothing set.
fn interpolated(value: &serde_yaml_ng::Value) -> String {
    let text = value.as_str().expect("quote numbers and booleans in the environment").to_owned();
    match text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(inner) => inner.split_once(":-").map_or("", |(_, default)| default).to_owned(),
        None => text,
    }
}

/// Addresses and folders of a container, as they are on this machine. Everything else stays as the
/// file has it.
struct Here {
    folder: PathBuf,
    clickhouse: Option<String>,
    broker: Option<String>,
}

impl Here {
    fn translate(&self, service: &Service) -> Vec<(String, String)> {
        let port_names = ["TCP_PORT", "HTTP_PORT", "METRICS_PORT", "LANECAST_CONSUMER_ADMIN_PORT"];
        let translate = |(name, value): (&String, &String)| {
            let value = match name.as_str() {
                "BROKER_ADDR" => {
                    assert_eq!(value, "broker:9080");
                    self.broker.clone().unwrap()
                }
                "CLICKHOUSE_URL" => {
                    assert_eq!(value, "http://clickhouse:8123");
                    self.clickhouse.clone().unwrap()
                }
                "LANECAST_DATA_DIR" => self.folder.join("broker-data").display().to_string(),
                port if port_names.contains(&port) => "0".to_owned(),
                _ => value.clone(),
            };
            (name.clone(), value)
        };
        service.environment.iter().map(translate).collect()
    }

    fn start(&self, service: &Service, replica: u64) -> Process {
        let arguments: Vec<&str> = service.command.iter().map(String::as_str).collect();
        let name = format!("{}-{replica}", service.name);
        Process::start(&self.folder, &name, &arguments, &self.translate(service))
    }
}

#[test]
fn compose_runs_as_written() {
    let services = services();
    let service = |name: &str| services.iter().find(|service| service.name == name).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut here = Here { folder: folder.path().to_owned(), clickhouse: None, broker: None };

    // The ClickHouse server's part is played by the local one, with compose's user and password.
    let consumer = service("consumer");
    let clickhouse_dir = folder.path().join("clickhouse");
    let arguments = [
        "clickhouse",
        "serve",
        "--port",
        "0",
        "--data-dir",
        clickhouse_dir.to_str().unwrap(),
        "--user",
        &consumer.environment["CLICKHOUSE_USER"],
        "--password",
        &consumer.environment["CLICKHOUSE_PASSWORD"],
    ];
    let mut clickhouse = Process::start(folder.path(), "clickhouse", &arguments, &[]);
    here.clickhouse = Some(format!("http://{}", clickhouse.ready().addr));

    let mut broker = here.start(service("broker"), 1);
    let port = broker.ready().addr.port();
    here.broker = Some(format!("127.0.0.1:{port}"));

    assert_eq!(consumer.replicas, 2, "the consumers share one group");
    let mut consumers: Vec<Process> =
        (1..=consumer.replicas).map(|replica| here.start(consumer, replica)).collect();
    for consumer in &mut consumers {
        consumer.ready();
    }
    let mut query = here.start(service("query"), 1);
    let query_port = query.ready().addr.port();
    let query_addr = format!("127.0.0.1:{query_port}").parse().unwrap();

    // The producer has no port, so it takes no ready file; it is stopped by dropping it.
    let producer = service("producer");
    let mut producer =
        support::clean_command(&producer.command.iter().map(String::as_str).collect::<Vec<_>>())
            .envs(here.translate(producer))
            .stderr(std::fs::File::create(folder.path().join("producer.stderr")).unwrap())
            .spawn()
            .unwrap();

    eventually(|| {
        assert!(producer.try_wait().unwrap().is_none(), "the producer ended");
        let gpus = get_json(query_addr, "/api/v1/gpus?limit=1000&fields=ids");
        (gpus["total"] == 247).then_some(())
    });
    let pid = rustix::process::Pid::from_child(&producer);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(producer.wait().unwrap().success());
    // In compose's order of stopping: whoever depends goes first.
    for process in [query].into_iter().chain(consumers).chain([broker, clickhouse]) {
        process.signal(rustix::process::Signal::TERM);
        process.succeeds();
    }
}

#[test]
fn every_setting_in_compose_is_one_that_lanecast_reads() {
    for service in services() {
        let arguments: Vec<&str> = service.command.iter().map(String::as_str).collect();
        let output = support::clean_command(&arguments)
            .arg("--print-config")
            .envs(&service.environment)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (name, value) in service.environment.iter().filter(|(_, value)| !value.is_empty()) {
            assert!(
                text.contains(&format!("environment {name}\n")),
                "{}: {name}={value} has no effect:\n{text}",
                service.name
            );
        }
    }
}

#[test]
fn files_that_compose_names_exist() {
    let document = compose();
    let broker = &document["services"]["broker"];
    let options = broker["security_opt"].as_sequence().unwrap();
    let profile = options
        .iter()
        .find_map(|option| option.as_str().unwrap().strip_prefix("seccomp:"))
        .expect("io_uring needs a seccomp profile that allows it");
    let text = std::fs::read_to_string(docker_dir().join(profile)).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    let denied = profile["syscalls"][0]["names"].as_array().unwrap();
    assert!(denied.iter().all(|name| !name.as_str().unwrap().starts_with("io_uring")));
    let context = docker_dir().join(broker["build"]["context"].as_str().unwrap());
    assert!(context.join(broker["build"]["dockerfile"].as_str().unwrap()).exists());
    let dockerfile = std::fs::read_to_string(docker_dir().join("Dockerfile")).unwrap();
    assert!(dockerfile.contains("USER nonroot") && dockerfile.contains("HEALTHCHECK"));
}
