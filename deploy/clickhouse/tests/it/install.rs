//! Fetching the library, with programs that stand in for npm and curl.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lanecast_clickhouse::install::{InstallConfig, InstallError, Progress, ensure};
use tempfile::TempDir;

/// A cache and programs of this test's own.
struct Bench {
    folder: TempDir,
    config: InstallConfig,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let config = InstallConfig {
            library: None,
            cache_dir: Some(folder.path().join("cache")),
            npm: folder.path().join("npm"),
            curl: folder.path().join("curl"),
        };
        Bench { folder, config }
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.folder.path().join(name);
        // Written by a shell: a file that this process has open for writing cannot be run, and
        // another test's child may inherit it.
        let written = Command::new("sh")
            .args(["-c", "printf '%s' \"$2\" > \"$1\"", "sh"])
            .arg(&path)
            .arg(format!("#!/bin/sh\n{script}\n"))
            .status()
            .unwrap();
        assert!(written.success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// An archive as npm makes them, with `content` as the library.
    fn archive(&self, content: &str) -> PathBuf {
        let package = self.folder.path().join("package");
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("libchdb.so"), content).unwrap();
        let archive = self.folder.path().join("made.tgz");
        let made = Command::new("tar")
            .arg("-czf")
            .arg(&archive)
            .args(["-C", self.folder.path().to_str().unwrap(), "package"])
            .status()
            .unwrap();
        assert!(made.success());
        archive
    }

    fn ensure(&self) -> Result<PathBuf, InstallError> {
        ensure(&self.config, &mut |_| {})
    }

    fn cached(&self) -> Vec<String> {
        let folder = self.config.cache_dir.as_ref().unwrap();
        let inner = folder.read_dir().unwrap().next().unwrap().unwrap().path();
        let mut names: Vec<String> = inner
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Copies the archive to what follows `--output`.
fn curl_that_copies(archive: &Path) -> String {
    format!(
        "while [ $# -gt 1 ]; do if [ \"$1\" = --output ]; then out=$2; fi; shift; done\n\
         cp '{}' \"$out\"",
        archive.display()
    )
}

#[test]
fn offline_says_what_to_do_by_hand() {
    let bench = Bench::new();
    bench.program("npm", "echo 'network is down' >&2; exit 1");
    bench.program("curl", "echo 'could not resolve host' >&2; exit 6");
    let error = bench.ensure().unwrap_err().to_string();
    for part in
        ["network is down", "could not resolve host", "npm pack", "libchdb.so", "LANECAST_CHDB_LIB"]
    {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
}

#[test]
fn machines_without_npm_and_curl_are_told_so() {
    let error = Bench::new().ensure().unwrap_err().to_string();
    assert!(error.contains("cannot run"), "{error}");
}

#[test]
fn a_library_of_the_users_own_is_used_as_it_is() {
    let mut bench = Bench::new();
    let own = bench.folder.path().join("own.so");
    bench.config.library = Some(own.clone());
    assert!(matches!(bench.ensure(), Err(InstallError::NoSuchLibrary { .. })));
    fs::write(&own, "x").unwrap();
    assert_eq!(bench.ensure().unwrap(), own);
}

#[test]
fn another_library_than_the_pinned_one_is_thrown_away() {
    let bench = Bench::new();
    let archive = bench.archive("not the library");
    bench.program("npm", "echo https://registry.invalid/x.tgz");
    bench.program("curl", &curl_that_copies(&archive));
    assert!(matches!(bench.ensure(), Err(InstallError::Checksum { .. })));
    assert_eq!(bench.cached(), ["install.lock"]);
}

#[test]
fn a_damaged_archive_is_thrown_away() {
    let bench = Bench::new();
    bench.program("npm", "echo https://registry.invalid/x.tgz");
    let garbage = bench.folder.path().join("garbage");
    fs::write(&garbage, "garbage").unwrap();
    bench.program("curl", &curl_that_copies(&garbage));
    assert!(matches!(bench.ensure(), Err(InstallError::Unpack { .. })));
    assert_eq!(bench.cached(), ["install.lock"]);
}

#[test]
fn an_interrupted_download_is_continued_from_the_same_address_only() {
    let bench = Bench::new();
    let log = bench.folder.path().join("log");
    // Each run adds a byte to what is there, notes the size, and breaks off.
    bench.program(
        "curl",
        &format!(
            "while [ $# -gt 1 ]; do if [ \"$1\" = --output ]; then out=$2; fi; shift; done\n\
             printf x >> \"$out\"\n\
             case $1 in *registry*) wc -c < \"$out\" >> '{}';; esac\n\
             echo 'connection reset' >&2; exit 18",
            log.display()
        ),
    );
    let npm_names = |address: &str| {
        bench.program("npm", &format!("case $1 in view) echo {address};; *) exit 1;; esac"));
    };
    npm_names("https://registry.invalid/x.tgz");
    bench.ensure().unwrap_err();
    bench.ensure().unwrap_err();
    npm_names("https://registry.invalid/y.tgz");
    bench.ensure().unwrap_err();
    let sizes: Vec<u32> = fs::read_to_string(&log)
        .unwrap()
        .split_whitespace()
        .map(|size| size.parse().unwrap())
        .collect();
    assert_eq!(sizes, [1, 2, 1]);
}

#[test]
#[ignore = "downloads 178 MB: cargo test -p lanecast-clickhouse -- --ignored"]
fn the_real_library_is_fetched_into_an_empty_cache() {
    let folder = tempfile::tempdir().unwrap();
    let config = InstallConfig {
        library: None,
        cache_dir: Some(folder.path().to_path_buf()),
        ..InstallConfig::default()
    };
    let mut seen = Vec::new();
    let path = ensure(&config, &mut |progress| {
        let stage = match progress {
            Progress::Waiting => "waiting",
            Progress::Downloading { bytes, total } => {
                assert!(total.is_none_or(|total| bytes <= total));
                "downloading"
            }
            Progress::Unpacking { .. } => "unpacking",
            Progress::Verifying { .. } => "verifying",
        };
        if seen.last() != Some(&stage) {
            eprintln!("{stage} {progress:?}");
            seen.push(stage);
        }
    })
    .unwrap();
    assert_eq!(seen, ["downloading", "unpacking", "verifying"]);
    assert!(path.starts_with(folder.path()));
    assert_eq!(ensure(&config, &mut |_| panic!("it is there")).unwrap(), path);
}
