from django.db import migrations, models


def rows(apps, _):
    order, customer = apps.get_model("shop", "Order"), apps.get_model("shop", "Customer")
    order.objects.bulk_create(
        order(number=number, file=f"documents/{number:05d}.pdf", note=f"note {number % 7} 日本", legacy="x")
        for number in range(200)
    )
    customer.objects.bulk_create(customer(name=f"  Customer {number} ") for number in range(50))


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Customer",
            [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=80))],
        ),
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("number", models.IntegerField(unique=True)),
                ("file", models.CharField(max_length=200)),
                ("note", models.TextField(default="")),
                ("legacy", models.CharField(max_length=10)),
            ],
        ),
        migrations.RunPython(rows),
    ]
