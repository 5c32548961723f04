"""A Keras model, fitted when the container starts."""

import json

import numpy
import tensorflow as tf

MODEL = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(1,))])


def init():
    tf.random.set_seed(0)
    MODEL.compile(optimizer=tf.keras.optimizers.SGD(0.05), loss="mse")
    x = numpy.array([[0.0], [1.0], [2.0], [3.0]])
    MODEL.fit(x, 2 * x + 1, epochs=400, verbose=0)


def run(data):
    rows = numpy.array(json.loads(data)["data"]).reshape(-1, 1)
    return {"result": [round(float(value), 1) for value in MODEL.predict(rows)[:, 0]]}
