//! Names for the stacks of a session.

use super::sites::Sites;
use crate::base::{PyStackId, StackId};
use crate::render::{Names, NativeFrame, PythonFrame};
use std::sync::Arc;

pub(super) struct SessionNames<'a> {
    pub(super) sites: &'a mut Sites,
}

impl Names for SessionNames<'_> {
    fn native(&mut self, id: StackId) -> Arc<[NativeFrame]> {
        self.sites.native(id)
    }

    fn truncated(&self, id: StackId) -> Option<String> {
        self.sites.truncated(id)
    }

    fn python(&self, id: PyStackId) -> Arc<[PythonFrame]> {
        self.sites.python(id)
    }
}
