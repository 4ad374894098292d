"""Maps of heads with several kinds of sites and with groups of several sizes."""

from headcount.units.map import HeadMap, Site

MAP = HeadMap(
    (
        Site("enc.0", "encoder", 0, 4, 4, 8),
        Site("enc.1", "encoder", 1, 2, 2, 16),
        Site("dec.0", "decoder", 0, 3, 3, 8),
        Site("cross.0", "cross", 0, 3, 3, 8),
    )
)
GROUPED = HeadMap((Site("a", "decoder", 0, 6, 2, 8), Site("b", "decoder", 1, 6, 2, 8)))
MIXED = HeadMap((Site("a", "encoder", 0, 3, 3, 8), Site("b", "decoder", 0, 8, 2, 8)))
