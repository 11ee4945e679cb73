"""Prometheus's text format 0.0.4 ("Exposition formats"), read strictly: what a scrape would refuse is an error here."""

import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
SAMPLE = re.compile(r"(%s)(?:\{(.*)\})? (\S+)" % NAME.pattern)
TYPES = ("counter", "gauge", "histogram")


def labels_of(text):
    found, rest = {}, text or ""
    while rest:
        label = LABEL.match(rest)
        assert label and label[1] not in found, text
        found[label[1]] = label[2]
        rest = rest[label.end():]
        assert rest == "" or rest.startswith(","), text
        rest = rest[1:]
    return found


class Metrics(dict):
    """Samples: {(name, ((label, value), ...)): value}, without the label `endpoint` where there is one endpoint."""

    def __init__(self, text, endpoint="receiver"):
        super().__init__()
        assert text.endswith("\n") and text.isascii(), text
        self.help, self.types, family, seen = {}, {}, None, set()
        for line in text.splitlines():
            if line.startswith("# HELP "):
                _, _, family, self.help[family] = line.split(" ", 3)
                assert family not in seen, f"{family} comes twice"
                seen.add(family)
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name == family and kind in TYPES, line
                self.types[name] = kind
            else:
                self.add(line, family, endpoint)

    def add(self, line, family, endpoint):
        sample = SAMPLE.fullmatch(line)     # a time stamp would not match
        assert sample, line
        name, labels, value = sample[1], labels_of(sample[2]), float(sample[3])
        ends = ("_bucket", "_sum", "_count") if self.types[family] == "histogram" else ("",)
        assert name in [family + end for end in ends], (line, family)
        assert self.types[family] != "counter" or name.endswith("_total"), name
        assert "endpoint" in labels, line
        if labels["endpoint"] == endpoint:
            del labels["endpoint"]
        key = name, tuple(sorted(labels.items()))
        assert key not in self, line
        self[key] = value

    def value(self, name, **labels):
        """Of one sample; None if it is absent."""
        return self.get((name, tuple(sorted(labels.items()))))

    def all(self, name):
        return {labels: value for (n, labels), value in self.items() if n == name}
