//! Questions and orders about topics and their consumer groups.
//!
//! Each is asked again, over a new connection if need be, until it is answered or
//! [`ClientConfig::request_timeout`](crate::ClientConfig::request_timeout) is over. All of them may
//! be asked twice: deleting what an earlier try has deleted is no error.

use lanecast_wire::ErrorCode;
use lanecast_wire::message::{
    AlterTopic, ClientMessage, CreateTopic, DeleteGroup, DeleteTopic, DescribeTopic, GroupInfo,
    ListGroups, ListTopics, MoveGroup, StartPosition, TopicInfo,
};
use lanecast_wire::session::Answer;

use crate::client::{Asked, Client};
use crate::error::ClientError;

/// A consumer group as one partition sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionGroup {
    pub partition: u32,
    pub group: GroupInfo,
}

impl Client {
    /// Makes a topic, or finds it with the same settings.
    ///
    /// # Errors
    /// The name is none, the topic exists with other settings, or the broker cannot be asked.
    pub async fn create_topic(&self, topic: CreateTopic) -> Result<TopicInfo, ClientError> {
        topic.check()?;
        self.one_topic(ClientMessage::CreateTopic(topic)).await
    }

    /// Changes settings of a topic while it is in use; what is `None` stays. The change is durable
    /// when this returns.
    ///
    /// # Errors
    /// There is no such topic, or the broker cannot be asked.
    pub async fn alter_topic(&self, alter: AlterTopic) -> Result<TopicInfo, ClientError> {
        alter.check()?;
        self.one_topic(ClientMessage::AlterTopic(alter)).await
    }

    /// Deletes a topic with its records and groups. Producers and subscribers of it come to their
    /// end.
    ///
    /// # Errors
    /// There is no such topic, or the broker cannot be asked.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let delete = DeleteTopic { name: name.to_owned() };
        delete.check()?;
        let asked = self.ask(&ClientMessage::DeleteTopic(delete)).await?;
        deleted(asked, ErrorCode::UNKNOWN_TOPIC)
    }

    /// Looks a topic up.
    ///
    /// # Errors
    /// There is none of that name, or the broker cannot be asked.
    pub async fn topic(&self, name: &str) -> Result<TopicInfo, ClientError> {
        let describe = DescribeTopic { name: name.to_owned() };
        describe.check()?;
        self.one_topic(ClientMessage::DescribeTopic(describe)).await
    }

    /// All topics.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, ClientError> {
        topics_of(self.ask(&ClientMessage::ListTopics(ListTopics {})).await?)
    }

    /// The consumer groups of a topic, of one partition or (`None`) of all, in order of partition.
    ///
    /// # Errors
    /// There is no such topic or partition, or the broker cannot be asked.
    pub async fn groups(
        &self,
        topic: &str,
        partition: Option<u32>,
    ) -> Result<Vec<PartitionGroup>, ClientError> {
        let topic = self.topic(topic).await?;
        let mut groups = Vec::new();
        for partition in partitions(&topic, partition) {
            let list = ListGroups { topic: topic.topic, partition };
            let found = groups_of(self.ask(&ClientMessage::ListGroups(list)).await?)?;
            groups.extend(found.into_iter().map(|group| PartitionGroup { partition, group }));
        }
        Ok(groups)
    }

    /// Sets where a group without members goes on, in one partition or (`None`) in all that know
    /// the group; chunks that it had not finished are forgotten. Gives the group as it stands then.
    ///
    /// Partitions are moved one after the other: an error of the broker leaves those before it moved. An
    /// offset that one of them has not come to moves none.
    ///
    /// # Errors
    /// No partition knows the group, it has members, a partition has not come to the offset, or the
    /// broker cannot be asked.
    pub async fn move_group(
        &self,
        topic: &str,
        partition: Option<u32>,
        group: &str,
        to: StartPosition,
    ) -> Result<Vec<PartitionGroup>, ClientError> {
        if let StartPosition::Offset(offset) = to {
            let groups = self.groups(topic, partition).await?;
            let short =
                groups.iter().find(|at| at.group.name == group && at.group.high_watermark < offset);
            if let Some(PartitionGroup { partition, group }) = short {
                let code = ErrorCode::OFFSET_OUT_OF_RANGE;
                let end = group.high_watermark;
                let message = format!(
                    "partition {partition} ends at {end}, before {offset}; nothing was moved"
                );
                return Err(ClientError::Refused { code, message });
            }
        }
        let topic = self.topic(topic).await?;
        let (mut moved, mut unknown) = (Vec::new(), None);
        for partition in partitions(&topic, partition) {
            let move_group =
                MoveGroup { topic: topic.topic, partition, group: group.to_owned(), to };
            move_group.check()?;
            match self.ask(&ClientMessage::MoveGroup(move_group)).await.and_then(groups_of) {
                Ok(groups) => {
                    let here = |group| PartitionGroup { partition, group };
                    moved.extend(groups.into_iter().map(here));
                }
                Err(error) if error.code() == Some(ErrorCode::UNKNOWN_GROUP) => {
                    unknown = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match unknown {
            Some(error) if moved.is_empty() => Err(error),
            Some(_) | None => Ok(moved),
        }
    }

    /// Forgets a group without members, in one partition or (`None`) in all that know it.
    ///
    /// # Errors
    /// No partition knows the group, it has members, or the broker cannot be asked.
    pub async fn delete_group(
        &self,
        topic: &str,
        partition: Option<u32>,
        group: &str,
    ) -> Result<(), ClientError> {
        let topic = self.topic(topic).await?;
        let (mut any, mut unknown) = (false, None);
        for partition in partitions(&topic, partition) {
            let delete = DeleteGroup { topic: topic.topic, partition, group: group.to_owned() };
            delete.check()?;
            let asked = self.ask(&ClientMessage::DeleteGroup(delete)).await?;
            match deleted(asked, ErrorCode::UNKNOWN_GROUP) {
                Ok(()) => any = true,
                Err(error) if error.code() == Some(ErrorCode::UNKNOWN_GROUP) => {
                    unknown = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match unknown {
            Some(error) if !any => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    async fn one_topic(&self, message: ClientMessage) -> Result<TopicInfo, ClientError> {
        let mut topics = topics_of(self.ask(&message).await?)?;
        match topics.pop() {
            Some(topic) if topics.is_empty() => Ok(topic),
            Some(_) | None => Err(ClientError::Answer),
        }
    }
}

fn partitions(topic: &TopicInfo, one: Option<u32>) -> std::ops::Range<u32> {
    one.map_or(0..topic.partitions, |one| one..one.saturating_add(1))
}

fn topics_of(asked: Asked) -> Result<Vec<TopicInfo>, ClientError> {
    match asked.answer? {
        Answer::Topics(topics) => Ok(topics),
        Answer::Groups(_) | Answer::Produced(_) | Answer::Subscribed(_) | Answer::Done => {
            Err(ClientError::Answer)
        }
    }
}

fn groups_of(asked: Asked) -> Result<Vec<GroupInfo>, ClientError> {
    match asked.answer? {
        Answer::Groups(groups) => Ok(groups),
        Answer::Topics(_) | Answer::Produced(_) | Answer::Subscribed(_) | Answer::Done => {
            Err(ClientError::Answer)
        }
    }
}

/// What an earlier try has deleted is deleted.
fn deleted(asked: Asked, unknown: ErrorCode) -> Result<(), ClientError> {
    match asked.answer {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Topics(_) | Answer::Groups(_) | Answer::Produced(_) | Answer::Subscribed(_)) => {
            Err(ClientError::Answer)
        }
        Err(refusal) if asked.repeated && refusal.code() == unknown => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}
