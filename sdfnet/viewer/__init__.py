"""The viewer: shapes, scenes and mesh files in a browser, with sliders; and the offline page with sliders."""

from sdfnet.viewer.app import ViewConfig as ViewConfig
from sdfnet.viewer.app import Viewer as Viewer
from sdfnet.viewer.app import view as view
from sdfnet.viewer.page import SliderPageConfig as SliderPageConfig
from sdfnet.viewer.page import save_slider_page as save_slider_page
from sdfnet.viewer.subject import Control as Control
from sdfnet.viewer.subject import Shown as Shown
from sdfnet.viewer.subject import State as State
from sdfnet.viewer.subject import Subject as Subject
from sdfnet.viewer.subject import open_subject as open_subject
