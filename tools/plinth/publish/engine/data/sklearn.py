"""A model really fitted with the image's own scikit-learn, served as a user would serve one."""

import json

from sklearn.linear_model import LogisticRegression

MODEL = LogisticRegression()


def init():
    MODEL.fit([[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1])


def run(data):
    rows = json.loads(data)["data"]
    return {"result": MODEL.predict(rows).tolist()}
