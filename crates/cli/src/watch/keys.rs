//! Keys, as the old program's dashboard has them: arrows, vi's and Emacs' letters.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Leave.
    Quit,
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// Some columns to the left.
    Left,
    /// Some columns to the right.
    Right,
    /// Back to the first column.
    LineStart,
    /// To the last column.
    LineEnd,
}

/// The action of a key; `None` for all others.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a keyboard has many keys that mean nothing here"
)]
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let action = match key.code {
        KeyCode::Char(letter) if control => match letter {
            'c' => Action::Quit,
            'p' => Action::Up,
            'n' => Action::Down,
            'u' => Action::PageUp,
            'd' => Action::PageDown,
            'b' => Action::Left,
            'f' => Action::Right,
            'a' => Action::LineStart,
            'e' => Action::LineEnd,
            _ => return None,
        },
        KeyCode::Char('q') | KeyCode::F(1) => Action::Quit,
        KeyCode::Char('k') | KeyCode::Up => Action::Up,
        KeyCode::Char('j') | KeyCode::Down => Action::Down,
        KeyCode::Char('h') | KeyCode::Left => Action::Left,
        KeyCode::Char('l') | KeyCode::Right => Action::Right,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home => Action::LineStart,
        KeyCode::End => Action::LineEnd,
        _ => return None,
    };
    Some(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_old_dashboard_does_what_it_did() {
        let plain = |code| action(KeyEvent::new(code, KeyModifiers::NONE));
        let control = |c| action(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        for key in [KeyCode::Char('q'), KeyCode::F(1)] {
            assert_eq!(plain(key), Some(Action::Quit));
        }
        let rows = [
            (KeyCode::Up, 'k', 'p', Action::Up),
            (KeyCode::Down, 'j', 'n', Action::Down),
            (KeyCode::Left, 'h', 'b', Action::Left),
            (KeyCode::Right, 'l', 'f', Action::Right),
        ];
        for (arrow, vi, emacs, wanted) in rows {
            assert_eq!(plain(arrow), Some(wanted));
            assert_eq!(plain(KeyCode::Char(vi)), Some(wanted));
            assert_eq!(control(emacs), Some(wanted));
        }
        let pages = [
            (KeyCode::PageUp, 'u', Action::PageUp),
            (KeyCode::PageDown, 'd', Action::PageDown),
            (KeyCode::Home, 'a', Action::LineStart),
            (KeyCode::End, 'e', Action::LineEnd),
        ];
        for (key, emacs, wanted) in pages {
            assert_eq!(plain(key), Some(wanted));
            assert_eq!(control(emacs), Some(wanted));
        }
        assert_eq!(control('c'), Some(Action::Quit));
        assert_eq!(plain(KeyCode::Char('x')), None);
    }
}
