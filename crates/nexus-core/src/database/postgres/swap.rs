//! The swap of two names in one transaction, and who is in its way.
//!
//! What was sent to the server goes on there whatever becomes of us: a swap is never left before its answer came, and what
//! an error means is asked of the server, not guessed.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::beside::{Beside, end_backend, lock, oid_of};
use super::catalogue::{identifier, literal};
use super::connect::Session;
use super::requirements::{HINDERS, MAY_BE_ENDED, in_the_way, require_no_prepared, sessions, unendable};
use super::restore::Sessions;
use crate::error::{DatabaseWords, Error, Result, chain};

/// How often sessions are ended, or waited for, while the names are swapped.
const TRIES: u32 = 10;
/// How long the swap may take altogether.
const WITHIN: Duration = Duration::from_mins(1);
/// How long the names themselves are waited for, milliseconds: only who makes or renames databases holds them.
const LOCK_WAIT: u32 = 10_000;
/// How often sessions are ended.
const END_EVERY: Duration = Duration::from_millis(200);

/// A filled database that is about to get its name.
pub(super) struct Swap<'a> {
    pub(super) beside: &'a Beside,
}

impl Swap<'_> {
    /// Swaps the names. Renaming locks the live database against new sessions, then waits for those in it: those who came
    /// last are ended meanwhile, where that was asked for.
    ///
    /// # Errors
    ///
    /// Any error but [`Error::Unreachable`] means that the names are as they were.
    pub(super) async fn carry_out(&self, session: &Session) -> Result<()> {
        let plan = &self.beside.plan;
        let until = Instant::now() + WITHIN;
        let mut newer = None;
        for tries in 1.. {
            let current = newer.as_ref().unwrap_or(session);
            let (outcome, trouble) = self.watched(current).await;
            let Err(error) = outcome else { return Ok(()) };
            let replaced = match self.settled(current).await {
                Ok(replaced) => replaced,
                Err(cause) => return Err(self.unknown(&error, &cause)),
            };
            let broken = replaced.is_some();
            newer = replaced.or(newer);
            let current = newer.as_ref().unwrap_or(session);
            // An answer can be lost after the commit.
            match oid_of(current, &plan.target.name).await {
                Ok(oid) if oid == Some(self.beside.oid) => return Ok(()),
                Ok(_) => {}
                Err(cause) => return Err(self.unknown(&error, &cause)),
            }
            // Files were copied meanwhile, for hours perhaps: a session may have been lost on the way.
            if broken && tries < TRIES {
                continue;
            }
            if !matches!(error, Error::Busy { .. }) {
                return Err(error);
            }
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
            require_no_prepared(current, &plan.target.name).await?;
            if tries >= TRIES || Instant::now() > until {
                let there = sessions(current, &plan.target.name, HINDERS).await?;
                return Err(if there.is_empty() { error } else { in_the_way(&plan.target.location(), &there) });
            }
        }
        unreachable!("the loop ends by itself")
    }

    /// One try, which is waited for whatever happens to the session that ends others; and why that one could not.
    async fn watched(&self, session: &Session) -> (Result<()>, Option<Error>) {
        let mut trouble = None;
        let outcome = {
            let ending = async {
                if self.beside.plan.liberties.sessions == Sessions::Ended && self.beside.kept.is_some() {
                    self.end_sessions(&mut trouble).await
                } else {
                    std::future::pending().await
                }
            };
            tokio::select! { outcome = self.swapped(session) => outcome, never = ending => match never {} }
        };
        (outcome, trouble)
    }

    async fn swapped(&self, session: &Session) -> Result<()> {
        let (plan, beside) = (&self.beside.plan, self.beside);
        let (live, fresh) = (identifier(&plan.target.name), identifier(&beside.fresh));
        let mut statements = vec!["begin".to_owned(), format!("set local lock_timeout = {LOCK_WAIT}")];
        if let Some(kept) = &beside.kept {
            statements.push(format!("alter database {live} rename to {}", identifier(kept)));
        }
        // The owner and the comment come with the name: until then the mark stays.
        statements.push(format!("alter database {fresh} rename to {live}"));
        let comment = plan.facts.comment.as_deref().map_or_else(|| "null".to_owned(), literal);
        statements.push(format!("comment on database {live} is {comment}"));
        if !plan.liberties.without_owners {
            statements.push(format!("alter database {live} owner to {}", identifier(&plan.facts.owner)));
        }
        session.run(&statements.join("; "), "swap the names").await?;
        // Names can be given to other databases while one is filled: what counts is what bears them now, locked.
        let mut wanted = vec![(plan.target.name.as_str(), Some(beside.oid))];
        wanted.extend(beside.kept.as_deref().map(|kept| (kept, plan.live)));
        for (name, oid) in wanted {
            if oid_of(session, name).await? != oid {
                return Err(Error::Changed {
                    what: format!(
                        "a database at {} got another name, or was made anew, while the dump was restored",
                        session.place()
                    ),
                });
            }
        }
        session.run("commit", "swap the names").await
    }

    /// Waits until nothing of a failed try goes on; a new session where the old one is gone.
    async fn settled(&self, session: &Session) -> Result<Option<Session>> {
        if session.run("rollback", "begin again").await.is_ok() {
            return Ok(None);
        }
        let newer = Session::open(&self.beside.plan.maintenance).await?;
        end_backend(&newer, session.pid()).await?;
        lock(&self.beside.plan.target, &newer).await?;
        if let Some(begun) = self.beside.plan.begun.get() {
            begun.pid.store(newer.pid(), Ordering::Relaxed);
        }
        Ok(Some(newer))
    }

    fn unknown(&self, error: &Error, cause: &Error) -> Error {
        let (location, fresh) = (self.beside.plan.target.location(), &self.beside.fresh);
        Error::Unreachable {
            what: format!(
                "the server went away while the names were swapped: {location} is the restored database unless one \
                 named {fresh} is still there, and then it is as it was"
            ),
            cause: Some(DatabaseWords(format!("{}; {}", chain(error), chain(cause))).into()),
        }
    }

    /// Ends sessions in the live database again and again; `trouble` is why some are not, as of the last time.
    async fn end_sessions(&self, trouble: &mut Option<Error>) -> Infallible {
        let name = &self.beside.plan.target.name;
        let sql = format!(
            "select case when {MAY_BE_ENDED} then pg_terminate_backend(a.pid) end from pg_stat_activity a
              where a.datname = {} and a.pid <> pg_backend_pid() and {HINDERS}",
            literal(name)
        );
        let mut session = None;
        loop {
            *trouble = match &session {
                None => match Session::open(&self.beside.plan.maintenance).await {
                    Ok(opened) => {
                        session = Some(opened);
                        continue;
                    }
                    Err(error) => Some(error),
                },
                Some(session) => {
                    let ended = async {
                        session.run(&sql, "end the sessions").await?;
                        unendable(session, name).await
                    };
                    ended.await.unwrap_or_else(Some)
                }
            };
            tokio::time::sleep(END_EVERY).await;
        }
    }
}
