//! Our routes, read and changed: a blackhole put in place and confirmed before an older one goes.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{RouteMessage, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use psentry_linux::Request;

use super::message::{Hole, header, hole, message};
use super::{Route, refused};
use crate::backend::Effect;
use crate::error::Error;

/// How many routes are added together, as far as the answers to all of them find room.
const TOGETHER: usize = 1000;

impl Route {
    /// Our routes of one family.
    fn holes(&mut self, family: AddressFamily) -> Result<Vec<Hole>, Error> {
        let doing = "list blackhole routes";
        let mut question = RouteMessage::default();
        question.header = header(family);
        // The kernel filters; what it sends beyond that is passed over below.
        question.header.scope = RouteScope::Universe;
        question.header.kind = RouteType::Unspec;
        let answer = match self.link.dump(doing, &RouteNetlinkMessage::GetRoute(question))? {
            Ok(answer) => answer,
            // A table without routes is none; a kernel without IPv6 has no routes of it.
            Err(Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(refused(doing, errno)),
        };
        Ok(answer.into_iter().filter_map(hole).collect())
    }

    pub(super) fn all(&mut self) -> Result<Vec<Hole>, Error> {
        let mut holes = self.holes(AddressFamily::Inet)?;
        holes.extend(self.holes(AddressFamily::Inet6)?);
        Ok(holes)
    }

    /// The new routes first, and once one is confirmed the old ones of its scope go: there is no moment without. Each scope
    /// with its new route and its old ones.
    pub(super) fn block(&mut self, blocks: &[(Hole, Vec<Hole>)]) -> Vec<Result<Effect, Error>> {
        let mut effects = self.put(blocks);
        for ((hole, _), effect) in blocks.iter().zip(&mut effects).filter(|(_, effect)| effect.is_ok()) {
            if let Err(error) = self.confirm(hole.scope) {
                // What has no effect is not left standing either.
                *effect = self.delete(*hole).and(Err(error));
            }
        }
        for ((hole, standing), effect) in blocks.iter().zip(&mut effects).filter(|(_, effect)| effect.is_ok())
        {
            for old in standing.iter().filter(|old| old.metric != hole.metric) {
                if let Err(error) = self.delete(*old) {
                    *effect = Err(error);
                }
            }
        }
        effects
    }

    /// Puts each route in place, or in the place of one of another kind that ends with it.
    pub(super) fn put(&mut self, blocks: &[(Hole, Vec<Hole>)]) -> Vec<Result<Effect, Error>> {
        let mut effects: Vec<Result<Effect, Error>> = vec![Ok(Effect::Done); blocks.len()];
        let request = |(hole, standing): &(Hole, Vec<Hole>)| {
            let other_kind = standing.iter().any(|old| old.metric == hole.metric);
            let how = if other_kind { NLM_F_REPLACE } else { NLM_F_EXCL };
            let message = RouteNetlinkMessage::NewRoute(message(*hole));
            (!standing.contains(hole)).then_some(Request { message, flags: NLM_F_CREATE | how, acked: true })
        };
        self.together("add a blackhole route", blocks.iter().map(request), &mut effects);
        effects
    }

    /// Sends requests some hundreds at a time, and notes which were refused; `None` asks for nothing.
    fn together(
        &mut self,
        doing: &'static str,
        requests: impl Iterator<Item = Option<Request<RouteNetlinkMessage>>>,
        effects: &mut [Result<Effect, Error>],
    ) {
        let most = self.link.ack_capacity().min(TOGETHER);
        let mut wanted = requests.enumerate().filter_map(|(at, request)| Some((at, request?))).peekable();
        while wanted.peek().is_some() {
            let (places, requests): (Vec<usize>, Vec<_>) = wanted.by_ref().take(most).unzip();
            let answers = self.link.batch(doing, requests);
            for (nth, at) in places.into_iter().enumerate() {
                let error = match &answers {
                    Ok(answers) => match answers.get(nth).copied().unwrap_or(Err(Errno::ENODATA)) {
                        Ok(()) => continue,
                        Err(errno) => refused(doing, errno),
                    },
                    Err(error) => error.clone().into(),
                };
                if let Some(effect) = effects.get_mut(at) {
                    *effect = Err(error);
                }
            }
        }
    }

    pub(super) fn release(&mut self, standing: &[Hole]) -> Result<Effect, Error> {
        for hole in standing {
            self.delete(*hole)?;
        }
        Ok(if standing.is_empty() { Effect::WasNotThere } else { Effect::Done })
    }

    pub(super) fn delete(&mut self, hole: Hole) -> Result<(), Error> {
        let doing = "delete a blackhole route";
        let mut message = message(hole);
        // To a deletion "nowhere" means: whatever scope.
        message.header.scope = RouteScope::NoWhere;
        match self.link.request(doing, RouteNetlinkMessage::DelRoute(message), 0)? {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(refused(doing, errno)),
        }
    }
}
