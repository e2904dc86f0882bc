"""The shop as the second migration leaves it."""

from django.db import models


class Customer(models.Model):
    name = models.CharField(max_length=80)


class Order(models.Model):
    number = models.IntegerField(unique=True)
    file = models.CharField(max_length=200)
    note = models.TextField(default="")
    status = models.CharField(max_length=20, default="open")


class Label(models.Model):
    text = models.CharField(max_length=40)
