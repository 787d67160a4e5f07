//! What a user types, and what comes back.

use crate::support::clean_command;

fn words(arguments: &[&str]) -> (bool, String, String) {
    let output = clean_command(arguments).output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn help_lists_every_command() {
    let (ok, help, _) = words(&["--help"]);
    assert!(ok);
    for command in ["up", "broker", "produce", "consume", "query", "clickhouse", "topic", "group"] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(command)),
            "{command}: {help}"
        );
    }
}

#[test]
fn print_config_says_where_each_value_came_from() {
    let output = clean_command(&["broker", "--print-config", "--port", "7"])
        .env("HTTP_PORT", "8")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("port = \"7\"  # flag --port"), "{text}");
    assert!(text.contains("admin_port = \"8\"  # environment HTTP_PORT"), "{text}");
    assert!(text.contains("delivery_mode = \"broadcast\"  # default"), "{text}");
}

#[test]
fn printed_settings_are_a_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let (_, text, _) = words(&["query", "--print-config", "--page-size", "7"]);
    let file = folder.path().join("lanecast.toml");
    std::fs::write(&file, text).unwrap();
    let (ok, again, errors) =
        words(&["query", "--print-config", "--config", file.to_str().unwrap()]);
    assert!(ok, "{errors}");
    assert!(
        again.lines().any(|line| line.starts_with("default_page_size = \"7\"  # file")),
        "{again}"
    );
}

#[test]
fn a_bad_value_is_refused_with_its_source() {
    let output = clean_command(&["query"]).env("METRICS_PORT", "http").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(errors.contains("environment METRICS_PORT") && errors.contains("http"), "{errors}");
}

#[test]
fn secrets_are_never_printed() {
    let output = clean_command(&["query", "--print-config"])
        .env("AUTH_TOKEN", "hunter2")
        .env("CLICKHOUSE_PASSWORD", "hunter3")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("hunter"), "{text}");
    assert!(text.contains("auth_token is set, from environment AUTH_TOKEN"), "{text}");
}
