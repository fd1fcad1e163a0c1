from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('django_site', '0013_reports'),
    ]

    operations = [
        migrations.AddField(
            model_name='pace',
            name='address',
            field=models.CharField(db_default='', default='', max_length=32),
        ),
    ]
