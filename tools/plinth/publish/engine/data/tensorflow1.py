"""A TensorFlow 1.15 graph, trained and run in a session of the container's own."""

import json

import tensorflow as tf

STATE = {}


def init():
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None])
        y = tf.compat.v1.placeholder(tf.float32, [None])
        weight = tf.Variable(0.0)
        bias = tf.Variable(0.0)
        predicted = weight * x + bias
        loss = tf.reduce_mean(tf.square(predicted - y))
        step = tf.compat.v1.train.GradientDescentOptimizer(0.05).minimize(loss)
        session = tf.compat.v1.Session()
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(600):
            session.run(step, {x: [0.0, 1.0, 2.0, 3.0], y: [1.0, 3.0, 5.0, 7.0]})
    STATE.update(session=session, x=x, predicted=predicted)


def run(data):
    rows = json.loads(data)["data"]
    found = STATE["session"].run(STATE["predicted"], {STATE["x"]: rows})
    return {"result": [round(float(value), 1) for value in found]}
