use std::future::{Future, poll_fn};
use std::task::Poll;

use glommio::{LocalExecutorBuilder, Placement};
use lanecast_wire::{PartitionId, TopicId};

use bytes::Bytes;

use super::*;

const LOG: LogId = LogId::Data(PartitionId { topic: TopicId(1), index: 2 });
const SEGMENT_BYTES: u64 = 3 * 1024 * 1024 + 4096;

/// Runs on an executor as the broker has them, with the data directory in a fresh folder.
fn on_disk<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(PathBuf, Files) -> F + Send + 'static,
) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(std::time::Duration::from_secs(365 * 24 * 3600))
        .spawn(move || async move {
            let findings = crate::probe::data_dir(&root);
            assert!(findings.iter().all(|finding| !finding.fatal), "{findings:?}");
            let files = Files::open(&root, Rc::new(Nudge::default())).await.unwrap();
            test(root, files).await;
        })
        .unwrap()
        .join()
        .unwrap();
}

async fn open(files: &Files) -> Vec<SegmentFile> {
    let done = files.inner.perform(DiskRequest::OpenLog { log: LOG }).await.unwrap();
    let DiskDone::Opened { segments, .. } = done else { panic!("{done:?}") };
    segments
}

async fn prepare(files: &Files, segment: u64, recycle: Option<u64>) -> Outcome {
    let recycle = recycle.map(SegmentId);
    let segment = SegmentId(segment);
    let request = DiskRequest::PrepareSegment { log: LOG, segment, bytes: SEGMENT_BYTES, recycle };
    files.inner.perform(request).await
}

async fn commit(files: &Files, segment: u64, position: u64, block: Bytes) -> Outcome {
    let segment = SegmentId(segment);
    let request = DiskRequest::Commit {
        log: LOG,
        segment,
        position,
        block: block.into(),
        flush: Flush::Block,
    };
    files.inner.perform(request).await
}

async fn read(files: &Files, segment: u64, position: u64, bytes: u32) -> Bytes {
    let segment = SegmentId(segment);
    let request = DiskRequest::Read { log: LOG, segment, position, bytes };
    let done = files.inner.perform(request).await.unwrap();
    let DiskDone::Read { bytes } = done else { panic!("{done:?}") };
    bytes
}

fn block(seed: u8, bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at / 4096) as u8 ^ (at as u8) ^ seed).collect()
}

#[test]
fn a_new_log_is_empty_and_its_folder_is_made() {
    on_disk(|root, files| async move {
        assert_eq!(open(&files).await, Vec::new());
        assert!(root.join("topics/1/2/data").is_dir());
        assert_eq!(open(&files).await, Vec::new());
    });
}

#[test]
fn a_prepared_segment_is_zeros_on_allocated_blocks() {
    use std::os::unix::fs::MetadataExt;
    on_disk(|root, files| async move {
        open(&files).await;
        prepare(&files, 7, None).await.unwrap();
        let segment = SegmentFile { segment: SegmentId(7), bytes: SEGMENT_BYTES };
        assert_eq!(open(&files).await, vec![segment]);
        let all = read(&files, 7, 0, SEGMENT_BYTES as u32).await;
        assert_eq!(all.len() as u64, SEGMENT_BYTES);
        assert!(all.iter().all(|byte| *byte == 0));
        let path = root.join("topics/1/2/data").join(segment_name(SegmentId(7)));
        assert!(fs::metadata(path).unwrap().blocks() * 512 >= SEGMENT_BYTES, "sparse");
    });
}

#[test]
fn commits_of_any_size_read_back_at_any_position() {
    on_disk(|_, files| async move {
        open(&files).await;
        prepare(&files, 0, None).await.unwrap();
        let large = block(1, DISK_IO_BYTES_MAX + 8192);
        let small = block(2, 4096);
        commit(&files, 0, 4096, large.clone()).await.unwrap();
        commit(&files, 0, 4096 + large.len() as u64, small.clone()).await.unwrap();
        assert_eq!(read(&files, 0, 4096, large.len() as u32).await, large);
        assert_eq!(read(&files, 0, 4099, 70_001).await, large[3..70_004]);
        assert_eq!(read(&files, 0, 4096 + large.len() as u64, 4096).await, small);
    });
}

#[test]
fn a_segment_is_written_in_every_way_at_once() {
    on_disk(|_, files| async move {
        open(&files).await;
        prepare(&files, 0, None).await.unwrap();
        let mut position = 0;
        let sizes = [4096, SYNCHRONOUS_BYTES_MAX, SYNCHRONOUS_BYTES_MAX + 4096, 8192, 4096, 4096];
        let flushes = [Flush::Block, Flush::Block, Flush::Block, Flush::Nothing, Flush::Segment];
        let mut written = Vec::new();
        for (n, size) in sizes.into_iter().enumerate() {
            let (log, segment, flush) = (LOG, SegmentId(0), flushes[n % flushes.len()]);
            let block = block(n as u8, size);
            let request =
                DiskRequest::Commit { log, segment, position, block: block.clone().into(), flush };
            assert_eq!(files.inner.perform(request).await, Ok(DiskDone::Committed), "{flush:?}");
            written.push((position, block));
            position += size as u64;
        }
        for (position, block) in written {
            assert_eq!(read(&files, 0, position, block.len() as u32).await, block);
        }
        let open = || files.inner.open.borrow();
        assert!(!open().is_empty());
        let delete = DiskRequest::DeleteSegment { log: LOG, segment: SegmentId(0) };
        files.inner.perform(delete).await.unwrap();
        assert!(open().is_empty(), "neither of its open files holds its blocks");
    });
}

#[test]
fn reads_end_where_the_segment_ends() {
    on_disk(|_, files| async move {
        open(&files).await;
        prepare(&files, 0, None).await.unwrap();
        assert_eq!(read(&files, 0, SEGMENT_BYTES - 4096, 100_000).await.len(), 4096);
        assert_eq!(read(&files, 0, SEGMENT_BYTES - 5, 4096).await.len(), 5);
        assert_eq!(read(&files, 0, SEGMENT_BYTES, 4096).await.len(), 0);
        assert_eq!(read(&files, 0, SEGMENT_BYTES + 77, 4096).await.len(), 0);
    });
}

#[test]
fn a_segment_that_there_is_no_time_for_has_its_room_and_reads_as_zeros() {
    use std::os::unix::fs::MetadataExt;
    on_disk(|root, files| async move {
        open(&files).await;
        let path = root.join("topics/1/2/data").join(segment_name(SegmentId(0)));
        fill::fill(&path, SEGMENT_BYTES, || u64::MAX).await.unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.len(), SEGMENT_BYTES);
        assert!(made.blocks() * 512 >= SEGMENT_BYTES, "{} blocks", made.blocks());
        let content = block(3, 8192);
        commit(&files, 0, 4096, content.clone()).await.unwrap();
        assert_eq!(read(&files, 0, 0, 4096).await, [0; 4096].as_slice());
        assert_eq!(read(&files, 0, 4096, 8192).await, content);
        let end = SEGMENT_BYTES - 4096;
        assert_eq!(read(&files, 0, end, 4096).await, [0; 4096].as_slice());
    });
}

#[test]
fn a_recycled_segment_keeps_its_content_under_its_new_name() {
    on_disk(|root, files| async move {
        open(&files).await;
        prepare(&files, 0, None).await.unwrap();
        let content = block(3, 8192);
        commit(&files, 0, 0, content.clone()).await.unwrap();
        prepare(&files, 5, Some(0)).await.unwrap();
        let segment = SegmentFile { segment: SegmentId(5), bytes: SEGMENT_BYTES };
        assert_eq!(open(&files).await, vec![segment]);
        assert_eq!(read(&files, 5, 0, 8192).await, content);

        // One of another size is replaced.
        let odd = root.join("topics/1/2/data").join(segment_name(SegmentId(6)));
        fs::write(&odd, [1; 4096]).unwrap();
        prepare(&files, 8, Some(6)).await.unwrap();
        assert!(!odd.exists());
        assert_eq!(read(&files, 8, 0, 16).await, [0; 16].as_slice());
    });
}

#[test]
fn what_a_crash_left_half_made_is_removed_and_strangers_are_left_alone() {
    on_disk(|root, files| async move {
        open(&files).await;
        let folder = root.join("topics/1/2/data");
        let partial = folder.join(partial_segment_name(SegmentId(1)));
        fs::write(&partial, b"half").unwrap();
        fs::write(folder.join("notes.txt"), b"mine").unwrap();
        assert_eq!(open(&files).await, Vec::new());
        assert!(!partial.exists());
        assert!(folder.join("notes.txt").exists());
    });
}

#[test]
fn deleting_is_done_once_it_is_gone() {
    on_disk(|_, files| async move {
        open(&files).await;
        prepare(&files, 0, None).await.unwrap();
        for _ in 0..2 {
            let request = DiskRequest::DeleteSegment { log: LOG, segment: SegmentId(0) };
            assert_eq!(files.inner.perform(request).await, Ok(DiskDone::Deleted));
        }
        assert_eq!(open(&files).await, Vec::new());
    });
}

#[test]
fn failures_name_the_file_and_the_reason() {
    on_disk(|_, files| async move {
        open(&files).await;
        let error = commit(&files, 3, 0, block(0, 4096)).await.unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Io);
        assert!(error.detail.contains("00000000000000000003.log"), "{error}");
        assert!(error.detail.contains("No such file"), "{error}");
    });
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let full = io::Error::from_raw_os_error(28);
    assert_eq!(failure("writing", Path::new("x"), &full).kind, DiskErrorKind::NoSpace);
    let broken = io::Error::from_raw_os_error(5);
    assert_eq!(failure("writing", Path::new("x"), &broken).kind, DiskErrorKind::Io);
    assert_eq!(full_write(512, 4096, Path::new("x")).unwrap_err().kind, DiskErrorKind::NoSpace);
}

#[test]
fn more_requests_than_run_at_a_time_are_all_done_once() {
    on_disk(|_, files| async move {
        open(&files).await;
        prepare(&files, 0, None).await.unwrap();
        let requests = 5 * DISK_OPERATIONS_MAX as u64;
        for number in 0..requests {
            let request = DiskRequest::Commit {
                log: LOG,
                segment: SegmentId(0),
                position: number * 4096,
                block: block(number as u8, 4096).into(),
                flush: Flush::Nothing,
            };
            files.submit(OperationId(number), request);
        }
        assert_eq!(files.commit_bytes(), requests * 4096);
        let mut done = vec![false; requests as usize];
        while files.pending() > 0 || files.has_done() {
            poll_fn(|context| {
                if files.has_done() || files.pending() == 0 {
                    return Poll::Ready(());
                }
                files.inner.nudge.wake_with(context.waker());
                Poll::Pending
            })
            .await;
            while let Some((operation, outcome)) = files.next_done() {
                assert_eq!(outcome, Ok(DiskDone::Committed));
                assert!(!std::mem::replace(&mut done[operation.0 as usize], true), "done twice");
            }
        }
        assert!(done.iter().all(|done| *done));
        assert_eq!(files.commit_bytes(), 0);
        for number in [0, requests / 2, requests - 1] {
            assert_eq!(read(&files, 0, number * 4096, 4096).await, block(number as u8, 4096));
        }
    });
}

#[test]
fn a_removed_log_leaves_nothing_and_folders_of_others_stay() {
    on_disk(|root, files| async move {
        let remove = |log| files.inner.perform(DiskRequest::RemoveLog { log });
        let PartitionId { topic, index } = PartitionId { topic: TopicId(1), index: 2 };
        let other = LogId::Groups(PartitionId { topic, index });
        open(&files).await;
        prepare(&files, 0, None).await.unwrap();
        commit(&files, 0, 0, block(1, 4096)).await.unwrap();
        files.inner.perform(DiskRequest::OpenLog { log: other }).await.unwrap();
        assert_eq!(remove(LOG).await, Ok(DiskDone::Deleted));
        assert!(!root.join("topics/1/2/data").exists());
        assert!(root.join("topics/1/2/groups").is_dir());
        assert!(files.inner.open.borrow().is_empty(), "no open file holds its blocks");
        assert_eq!(remove(LOG).await, Ok(DiskDone::Deleted), "once more is no error");
        assert_eq!(remove(other).await, Ok(DiskDone::Deleted));
        assert!(!root.join("topics/1").exists() && root.join("topics").is_dir());
        assert_eq!(remove(other).await, Ok(DiskDone::Deleted), "nor with all folders gone");
    });
}
