//! Errors of the broker with what to do about them.

use lanecast_client::ClientError;
use lanecast_wire::ErrorCode;

use super::Failure;
use crate::settings::{Settings, table};

/// What a request was about, for its error.
#[derive(Clone, Copy)]
pub(super) enum About<'a> {
    Broker,
    Topic(&'a str),
    Group { topic: &'a str, group: &'a str },
}

/// The error in words that help.
pub(super) fn explain(error: ClientError, about: About<'_>, settings: &Settings) -> Failure {
    let addr = settings.text(&table::BROKER_ADDR).unwrap_or_default();
    let topic = match about {
        About::Broker => "",
        About::Topic(topic) | About::Group { topic, .. } => topic,
    };
    let group = match about {
        About::Broker | About::Topic(_) => "",
        About::Group { group, .. } => group,
    };
    let text = match &error {
        ClientError::Connect { last, .. } => format!(
            "no broker at {addr}: {last}; `lanecast broker` starts one, --broker or BROKER_ADDR \
             names another"
        ),
        ClientError::Refused { code, message } => match *code {
            ErrorCode::UNKNOWN_TOPIC => format!(
                "the broker at {addr} has no topic {topic:?}; `lanecast topic list` shows those \
                 it has"
            ),
            ErrorCode::TOPIC_EXISTS => format!(
                "topic {topic:?} exists with other settings; `lanecast topic describe {topic}` \
                 shows them, `lanecast topic alter {topic}` changes them"
            ),
            ErrorCode::UNKNOWN_PARTITION => format!(
                "topic {topic:?} does not have that partition; `lanecast topic describe {topic}` \
                 shows those it has"
            ),
            ErrorCode::UNKNOWN_GROUP => format!(
                "topic {topic:?} has no consumer group {group:?}; `lanecast group list` shows \
                 those there are"
            ),
            ErrorCode::GROUP_ACTIVE => format!(
                "consumer group {group:?} has members on topic {topic:?}: stop them first \
                 (`lanecast group describe {group} --topic {topic}` shows where)"
            ),
            ErrorCode::OFFSET_OUT_OF_RANGE => format!(
                "that offset lies outside the log; `lanecast topic describe {topic}` shows how far \
                 each partition reaches"
            ),
            _ => format!("the broker at {addr} refuses: {message}"),
        },
        ClientError::Config { .. } | ClientError::Timeout { .. } | ClientError::Answer => {
            return Box::new(error);
        }
    };
    text.into()
}
