"""The plots of the book, in one style. Imported only where something is drawn: by chapters.

`plots` draws what the chapters show, `marks` what a figure says beside its data, and `stills`
brings a figure into the page. Chapters find all of it here.
"""

from wsp.lab.figures.marks import QUIET as QUIET
from wsp.lab.figures.marks import forest as forest
from wsp.lab.figures.marks import half_a_point as half_a_point
from wsp.lab.figures.marks import headline as headline
from wsp.lab.figures.marks import hollow as hollow
from wsp.lab.figures.marks import interval as interval
from wsp.lab.figures.marks import key as key
from wsp.lab.figures.marks import label_ends as label_ends
from wsp.lab.figures.marks import label_line as label_line
from wsp.lab.figures.marks import label_points as label_points
from wsp.lab.figures.marks import mark as mark
from wsp.lab.figures.marks import spread as spread
from wsp.lab.figures.marks import tiles as tiles
from wsp.lab.figures.marks import wrap_names as wrap_names
from wsp.lab.figures.marks import zero_line as zero_line
from wsp.lab.figures.plots import COLORS as COLORS
from wsp.lab.figures.plots import JOB_COLORS as JOB_COLORS
from wsp.lab.figures.plots import JOB_MARKS as JOB_MARKS
from wsp.lab.figures.plots import accuracy_bars as accuracy_bars
from wsp.lab.figures.plots import color_of as color_of
from wsp.lab.figures.plots import decision_surface as decision_surface
from wsp.lab.figures.plots import learning_curve as learning_curve
from wsp.lab.figures.plots import name_of as name_of
from wsp.lab.figures.plots import number_lines as number_lines
from wsp.lab.figures.plots import people as people
from wsp.lab.figures.plots import shares as shares
from wsp.lab.figures.plots import starts as starts
from wsp.lab.figures.plots import use_style as use_style
from wsp.lab.figures.stills import INK as INK
from wsp.lab.figures.stills import show as show
